"""Arrivals to replay: when requests come, and how long the clips are that they ask for."""

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
    """``seconds`` of the trace called ``name``. ``rate_at_peak``: the requests a second where there
    are most, from a sample of their durations."""
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
    """Pareto from 5 s, of shape 1.2, at most 120 s."""
    durations: Floats = np.round(np.minimum(5 * (1 + rng.pareto(1.2, count)), 120))
    return durations


def _steady(at: Floats) -> Floats:
    return np.ones_like(at)


def _diurnal(at: Floats) -> Floats:
    """Two days in one trace: at night a twentieth of the peak."""
    return 0.05 + 0.95 * np.sin(2 * np.pi * at) ** 2


def _burst(at: Floats) -> Floats:
    """Nothing, but for two bursts of a thirtieth of the trace, the second half as high."""
    first, second = (at >= 0.1) & (at < 0.1 + 1 / 30), (at >= 0.6) & (at < 0.6 + 1 / 30)
    return 1.0 * first + 0.5 * second


TRACES: dict[str, tuple[Callable[[Floats], Floats], Durations]] = {
    "steady": (_steady, mostly_short),
    "diurnal": (_diurnal, mostly_short),
    "burst": (_burst, mostly_short),
    "heavy-tailed": (_steady, heavy_tailed),
}
"""By name: the rate, relative to the highest, over the trace (its position is in [0, 1)); and the
lengths of the clips."""


def _arrivals(
    rng: np.random.Generator, shape: Callable[[Floats], Floats], seconds: float, rate: float
) -> Floats:
    """A Poisson process whose rate follows ``shape``, by inverting the cumulative rate."""
    grid = np.linspace(0, 1, 10_001)
    cumulative = np.concatenate([[0.0], np.cumsum(shape(grid[:-1]))])
    count = rng.poisson(rate * seconds)
    places = np.sort(rng.random(count)) * cumulative[-1]
    arrivals: Floats = np.interp(places, cumulative, grid) * seconds
    return arrivals
