"""Measure what batches cost on this device, and up to which size a larger one pays."""

import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np

from sa_ray.contracts import ResolvedRequest
from sa_ray.engines.port import Engine, Generated
from sa_ray.scheduling.costs import Calibration, Cost

_log = logging.getLogger(__name__)

LENGTHS: Final = (5.0, 30.0)
"""Clip lengths to measure at, seconds; warm-up has recorded their CUDA graphs."""

NO_GAIN: Final = 1.8
"""Cost of twice the rows, relative, from which on they wait longer for next to no throughput."""

REPEATS: Final = 3
"""Runs of a batch of which the quickest counts: replicas that share a GPU disturb each other."""

Measure = Callable[[int, float], float | None]
"""``measure(rows, length)``: seconds of a batch of clips of ``length`` seconds; None: it failed."""


def stopwatch(
    engine: Engine,
    request: Callable[[float, str], ResolvedRequest],
    clock: Callable[[], float] = time.perf_counter,
) -> Measure:
    """Return what measures whole batches, after one that is not measured.

    ``request(length, prompt)``: a row. Prompts are new each time: a repeated one is encoded once.
    """
    numbers = itertools.count()

    def run(rows: int, length: float) -> float | None:
        batch = [request(length, f"a church bell rings {next(numbers)}") for _ in range(rows)]
        started = clock()
        outcomes = engine.generate(batch, lambda row, fraction: None, lambda row: False)
        took = clock() - started
        return took if all(isinstance(one, Generated) for one in outcomes) else None

    def measure(rows: int, length: float) -> float | None:
        runs = [run(rows, length) for _ in range(1 + REPEATS)]
        whole = [took for took in runs[1:] if took is not None]
        return min(whole) if len(whole) == REPEATS else None

    return measure


def calibrate(measure: Measure, cost: Cost, max_rows: int) -> Calibration | None:
    """Measure batches of 1, 2, 4, ... rows, at most ``max_rows``, while more of them pay.

    ``cost``: what was assumed, whose ``sampling`` and ``guidance`` stay. Returns None if not even
    one row could be measured. Running out of memory shows as a batch that takes as long as its
    halves.
    """
    seconds: dict[tuple[int, float], float] = {}
    best: dict[float, int] = {}
    for length in LENGTHS:
        rows = 1
        while (took := measure(rows, length)) is not None:
            seconds[rows, length] = took
            before = best.get(length)
            if before and took >= seconds[before, length] * NO_GAIN ** math.log2(rows / before):
                break
            best[length] = rows
            if rows == max_rows:
                break
            rows = min(2 * rows, max_rows)
    if len(best) < len(LENGTHS):
        return None
    return Calibration(
        cost=cost.model_copy(update=_fitted(seconds)),
        max_rows=max(best.values()),
        max_seconds=max(length * rows for length, rows in best.items()),
    )


def _fitted(seconds: Mapping[tuple[int, float], float]) -> dict[str, float]:
    """Return the ``batch``, ``row`` and ``second`` of the ``Cost`` nearest to what was measured.

    Nearest by relative squares; none is negative.
    """
    names = ("batch", "row", "second")
    took = np.array(list(seconds.values()))
    terms = np.array([(1.0, rows, rows * length) for rows, length in seconds]) / took[:, None]
    best: tuple[float, dict[str, float]] = math.inf, {}
    for count in (1, 2, 3):
        for chosen in combinations(range(len(names)), count):
            factors, *_ = np.linalg.lstsq(terms[:, chosen], np.ones(len(took)), rcond=None)
            error = float(((terms[:, chosen] @ factors - 1) ** 2).sum())
            if error < best[0] and (factors >= 0).all():
                found = {names[at]: float(one) for at, one in zip(chosen, factors, strict=True)}
                best = error, dict.fromkeys(names, 0.0) | found
    return best[1]


def remembered(
    folder: Path, key: Mapping[str, Any], measure: Callable[[], Calibration | None]
) -> Calibration | None:
    """Return what an earlier start measured under the same ``key``, else what ``measure`` returns.

    ``key``: all that the result depends on, as JSON. Where ``folder`` cannot be written, the next
    start measures again.
    """
    text = json.dumps(key, sort_keys=True)
    path = folder / f"{sha256(text.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError):
        return Calibration.model_validate_json(path.read_text())
    found = measure()
    if found is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{uuid4().hex}")
            part.write_text(found.model_dump_json())
            part.replace(path)
        except OSError as error:
            _log.info("the calibration is not kept: %s", error)
    return found
