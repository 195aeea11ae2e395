"""Traces to replay: arrival times of requests, and durations of their clips."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Durations = Callable[[np.random.Generator, int], Floats]

SAMPLE = 10_000


@dataclass(frozen=True, slots=True)
class Trace:
    """``arrivals``: seconds, ascending. ``durations``: whole seconds of audio, one per arrival."""

    arrivals: Floats
    durations: Floats
    seconds: float


def make(name: str, seconds: float, seed: int, rate_at_peak: Callable[[Floats], float]) -> Trace:
    """Return ``seconds`` of the trace called ``name``.

    ``rate_at_peak``: returns the highest rate, requests per second, from a sample of durations.
    """
    rng = np.random.default_rng(seed)
    shape, durations = TRACES[name]
    mean = float(np.mean(shape(np.linspace(0, 1, 10_000, endpoint=False))))
    rate = mean * rate_at_peak(durations(np.random.default_rng(seed), SAMPLE))
    arrivals = _arrivals(rng, shape, seconds, rate)
    return Trace(arrivals, durations(rng, len(arrivals)), seconds)


def mostly_short(rng: np.random.Generator, count: int) -> Floats:
    durations: Floats = rng.choice([5.0, 10.0, 30.0], count, p=[0.5, 0.3, 0.2])
    return durations


def heavy_tailed(rng: np.random.Generator, count: int) -> Floats:
    """Draw from a Pareto distribution from 5 s, of shape 1.2, at most 120 s."""
    durations: Floats = np.round(np.minimum(5 * (1 + rng.pareto(1.2, count)), 120))
    return durations


def _steady(at: Floats) -> Floats:
    return np.ones_like(at)


def _diurnal(at: Floats) -> Floats:
    """Two days in one trace; the nights have a twentieth of the peak."""
    return 0.05 + 0.95 * np.sin(2 * np.pi * at) ** 2


def _burst(at: Floats) -> Floats:
    """Two bursts of a thirtieth of the trace each, the second half as high; otherwise nothing."""
    first, second = (at >= 0.1) & (at < 0.1 + 1 / 30), (at >= 0.6) & (at < 0.6 + 1 / 30)
    return 1.0 * first + 0.5 * second


TRACES: dict[str, tuple[Callable[[Floats], Floats], Durations]] = {
    "steady": (_steady, mostly_short),
    "diurnal": (_diurnal, mostly_short),
    "burst": (_burst, mostly_short),
    "heavy-tailed": (_steady, heavy_tailed),
}
"""By name: the rate over the trace, relative to the highest (positions in [0, 1)), and the
durations of the clips."""


def _arrivals(
    rng: np.random.Generator, shape: Callable[[Floats], Floats], seconds: float, rate: float
) -> Floats:
    """Draw a Poisson process whose rate follows ``shape``, by inverting the cumulative rate."""
    grid = np.linspace(0, 1, 10_001)
    cumulative = np.concatenate([[0.0], np.cumsum(shape(grid[:-1]))])
    count = rng.poisson(rate * seconds)
    places = np.sort(rng.random(count)) * cumulative[-1]
    arrivals: Floats = np.interp(places, cumulative, grid) * seconds
    return arrivals
