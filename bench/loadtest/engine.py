"""Engines for measuring what serves them: one that costs nothing, one that sleeps like a GPU."""

import time
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from sa_ray.catalogue import CATALOGUE
from sa_ray.contracts import SAMPLE_RATE, EngineName, ResolvedRequest, VariantName
from sa_ray.engines import Audio, BatchOutcome, Cancelled, Generated
from sa_ray.engines.port import IsCancelled, OnStep
from sa_ray.scheduling.costs import REFERENCE_STEPS, Calibration, Cost

Seconds = Callable[[Sequence[ResolvedRequest]], float]
"""``seconds(batch)``: what the engine takes for it."""

NOISE_LEVEL: Final = 0.5
SPARE: Final = SAMPLE_RATE
"""Samples beyond the longest clip; a clip begins anywhere in them."""

ROW_S: Final = 5.0
"""Seconds of audio of the rows that the figures below are for."""

SMALL: Final = (
    (0.0, 0.035),
    (1.0, 0.040),
    (8.0, 0.075),
    (16.0, 0.125),
    (1016.0, 0.125 + 1e3 / 135),
)
"""Rows of 5 s, and seconds of an H100 for them: 40 ms for one, 75 for 8, 128 clips a second with 16
and 135 at most. Traced on a pretended device, 30 % either way. A longer row counts as several."""

MEDIUM_FLOOR: Final = 1940 / 1464
MEDIUM_ROW: Final = (0.13 - 0.02) / (0.044 - 0.017)
"""``medium`` against the small models: kernels of a step, and what 115 s more of audio cost with
the TensorRT engines of the model's README."""

SAMPLING: Final = {"small-sfx": 0.6, "small-music": 0.6, "medium": 0.5}
"""Share of it all that grows with the number of steps, as in ``sa_ray.scheduling.costs``."""

ASLEEP_S: Final = 300.0
"""Longer than any phase; with 50 steps, a clip can be cancelled within 6 s."""

EAGER: Final = ((5.0, 0.41), (30.0, 0.46), (120.0, 0.46))
"""Seconds of a clip of the small models, and of an H200 for it as the package runs: its README."""


def nothing(_batch: Sequence[ResolvedRequest]) -> float:
    """Return 0: what an engine that costs nothing takes."""
    return 0.0


def asleep(_batch: Sequence[ResolvedRequest]) -> float:
    """Return ``ASLEEP_S``."""
    return ASLEEP_S


def eager(batch: Sequence[ResolvedRequest]) -> float:
    """Return what the model's package takes on a GPU, one request after the other."""
    return sum(float(np.interp(one.duration, *zip(*EAGER, strict=True))) for one in batch)


def h100(batch: Sequence[ResolvedRequest]) -> float:
    """Return what an H100 would take for ``batch``, 0 if that is empty."""
    if not batch:
        return 0.0
    longest = max(one.duration for one in batch)
    return _table(batch[0].model, len(batch) * longest / ROW_S) * _factor(batch[0])


def _table(variant: VariantName, rows: float) -> float:
    took = float(np.interp(rows, *zip(*SMALL, strict=True)))
    floor = SMALL[0][1]
    return took if variant != "medium" else floor * MEDIUM_FLOOR + (took - floor) * MEDIUM_ROW


def _factor(request: ResolvedRequest) -> float:
    """Return the cost of the steps and guidance of ``request``, relative to the defaults."""
    share = SAMPLING[request.model]
    passes = 2 if request.cfg_scale != 1 else 1
    return 1 - share + share * passes * request.steps / REFERENCE_STEPS


class PretendedEngine:
    """Makes noise that was ready before, once ``seconds`` of the batch have passed.

    Implements ``Engine``: steps, progress, cancellation, and noise that depends on the request
    alone. The samples of a clip without a source may not be written to.
    """

    def __init__(
        self,
        variant: VariantName,
        seconds: Seconds,
        *,
        name: EngineName = "procedural",
        device: str = "cpu",
        longest_s: float | None = None,
    ) -> None:
        """``longest_s``: longest clip to be ready for, seconds; None: that of ``variant``."""
        longest_s = longest_s or CATALOGUE[variant].max_duration
        self._variant: VariantName = variant
        self._seconds = seconds
        self._name: EngineName = name
        self._device = device
        rng = np.random.default_rng(0)
        shape = (2, SPARE + round(longest_s * SAMPLE_RATE))
        self._noise = rng.random(shape, dtype=np.float32)
        self._noise -= 0.5
        self._noise *= 2 * NOISE_LEVEL
        self._noise.setflags(write=False)

    @property
    def name(self) -> EngineName:
        return self._name

    @property
    def device(self) -> str:
        return self._device

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    @property
    def slowdown(self) -> None:
        return None

    @property
    def fault(self) -> None:
        return None

    @property
    def calibration(self) -> Calibration | None:
        """Calibration as a replica measures it, of small models or ``medium``; None on a CPU."""
        if self._device == "cpu":
            return None
        floor = _table(self._variant, 0.0)
        second = (_table(self._variant, 8.0) - floor) / 8 / ROW_S
        sampling = SAMPLING[self._variant]
        cost = Cost(batch=floor, row=0, second=second, sampling=sampling, guidance=2)
        return Calibration(cost=cost, max_rows=16)

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        """Sleep through the steps of ``batch``; rows that are dropped make those left shorter."""
        outcomes: dict[int, BatchOutcome] = {}
        due = time.perf_counter()
        steps = max((one.steps for one in batch), default=0)
        for step in range(steps):
            for row in range(len(batch)):
                if row not in outcomes and is_cancelled(row):
                    outcomes[row] = Cancelled()
            left = [row for row in range(len(batch)) if row not in outcomes]
            if not left:
                break
            # Against the clock: late wake-ups must not add up.
            due += self._seconds([batch[row] for row in left]) / steps
            time.sleep(max(0.0, due - time.perf_counter()))
            for row in left:
                on_step(row, (step + 1) / steps)
        for row, request in enumerate(batch):
            if row not in outcomes:
                outcomes[row] = Generated(self._made(request, sources[row] if sources else None))
        return [outcomes[row] for row in range(len(batch))]

    def close(self) -> None:
        """Do nothing: it is in this process alone."""

    def _made(self, request: ResolvedRequest, source: Audio | None) -> Audio:
        told = f"{request.prompt}\n{request.negative_prompt}\n{request.seed}"
        start = zlib.crc32(told.encode()) % SPARE
        noise = self._noise[:, start : start + round(request.duration * SAMPLE_RATE)]
        if source is None or request.regions:
            return noise
        level = np.float32(request.init_noise_level)
        return noise * level + source * (1 - level)
