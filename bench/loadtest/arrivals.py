"""When requests are sent in an open loop: seconds from the start, ascending."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.simulation import traces

Times = npt.NDArray[np.float64]

BURST_PERIOD_S = 10.0
BURST_SHARE = 0.2
"""Bursts last a fifth of each ten seconds."""


class Arrivals(NamedTuple):
    """``durations``: seconds of audio of each; None: as the mix says."""

    times: Times
    durations: Times | None = None


def poisson(rate: float, seconds: float, seed: int = 0) -> Arrivals:
    """Draw independent arrivals, ``rate`` a second on average, over ``seconds``."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate * seconds)
    return Arrivals(np.sort(rng.random(count)) * seconds)


def bursts(rate: float, seconds: float, seed: int = 0) -> Arrivals:
    """Draw ``rate`` a second on average, all of them in the first fifth of each ten seconds."""
    even = poisson(rate, seconds, seed).times
    period, place = np.divmod(even, BURST_PERIOD_S)
    return Arrivals(period * BURST_PERIOD_S + place * BURST_SHARE)


def trace(name: str, rate: float, seconds: float, seed: int = 0) -> Arrivals:
    """Draw a trace of ``bench/simulation/traces.py`` whose highest rate is ``rate`` a second."""
    made = traces.make(name, seconds, seed, lambda durations: rate)
    return Arrivals(made.arrivals, made.durations)


def from_file(path: Path) -> Arrivals:
    """Read a line of JSON for each request: ``{"at": seconds, "duration": seconds}``.

    Raises ``ValueError`` that names the line if one is something else, or only some have durations.
    """
    times, durations = [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            told = json.loads(line)
            times.append(float(told["at"]))
            if "duration" in told:
                durations.append(float(told["duration"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {error!r}") from None
    if durations and len(durations) != len(times):
        raise ValueError(f"{path}: {len(durations)} of {len(times)} lines have a duration")
    order = np.argsort(times, kind="stable")
    told_durations = np.array(durations)[order] if durations else None
    return Arrivals(np.array(times)[order], told_durations)
