"""An engine that makes its batches in many short calls, as torch does, and sleeps in each.

Between two of them its thread needs the interpreter lock again. That is what this is to show: an
engine that sleeps once a step hardly ever waits for it.
"""

import ctypes
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from bench.loadtest.engine import PretendedEngine, nothing
from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines import Audio, BatchOutcome, Cancelled, Generated
from sa_ray.engines.port import IsCancelled, OnStep

H100_ALONE: Final = ((1, 0.0248), (8, 0.0485), (16, 0.0808), (32, 0.154))
"""Rows of 5 s of ``small-sfx``, and seconds of an H100 with nothing else in its process:
``bench/results/serving.md``."""

CALLS: Final = 400
"""Of a batch."""

PYTHON_S: Final = 17e-6
"""Of each call with the interpreter lock: so it had it for 10 % of 68 ms, by py-spy on the H100."""

PR_SET_TIMERSLACK: Final = 29


def load(variant: VariantName, factor: float = 1.0) -> "CallingEngine":
    """Return an engine that takes ``factor`` times as long as an H100."""
    return CallingEngine(variant, factor)


class CallingEngine(PretendedEngine):
    """Takes as long as an H100 does alone, but for its waits for the interpreter lock."""

    def __init__(self, variant: VariantName, factor: float = 1.0) -> None:
        super().__init__(variant, nothing, name="stable-audio-3", device="cuda", longest_s=30)
        self._factor = factor
        self._late = _lateness()

    def seconds(self, rows: int) -> float:
        """Return what a batch of ``rows`` rows takes alone."""
        return self._factor * float(np.interp(rows, *zip(*H100_ALONE, strict=True)))

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        _wake_in_time()
        _go_first()
        asleep = max(0.0, self.seconds(len(batch)) / CALLS - PYTHON_S - self._late)
        steps = max((one.steps for one in batch), default=0)
        for step in range(steps):
            for _ in range(CALLS // steps):
                until = time.perf_counter() + PYTHON_S
                while time.perf_counter() < until:
                    pass
                time.sleep(asleep)
            for row in range(len(batch)):
                on_step(row, (step + 1) / steps)
        return [
            Cancelled() if is_cancelled(row) else Generated(self._made(request, None))
            for row, request in enumerate(batch)
        ]


def _lateness() -> float:
    """Return by how much a short sleep is longer than it should be, seconds."""
    _wake_in_time()
    late = []
    for _ in range(500):
        begun = time.perf_counter()
        time.sleep(1e-4)
        late.append(time.perf_counter() - begun - 1e-4)
    return statistics.median(late)


def _go_first() -> None:
    """Have this thread run before all that are in no haste, where it may: as on a core of its own,
    as an H100's machine has many."""
    if sys.platform == "linux":
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))


def _wake_in_time() -> None:
    """Have this thread's sleeps end within a microsecond; Linux adds up to 50 otherwise."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1000)
