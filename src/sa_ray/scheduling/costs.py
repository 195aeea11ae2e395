"""Cost of a batch: seconds of one replica, from length, steps and guidance.

Mostly the proportions matter: a replica corrects the scale by the measured time of its batches.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from sa_ray.contracts import EngineName, ResolvedRequest, VariantName

REFERENCE_STEPS: Final = 8
"""Sampling steps that the figures below hold for: the default of the API."""


class Cost(BaseModel):
    """Seconds of one replica for a batch of ``n`` rows, the longest of ``d`` seconds.

    ``batch + n * (row + second * d)`` at ``REFERENCE_STEPS`` steps without guidance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: float = Field(ge=0, description="Seconds that a batch costs, whatever is in it.")
    row: float = Field(ge=0, description="Seconds that each row costs, whatever its length.")
    second: float = Field(ge=0, description="Seconds that each second of audio of a row costs.")
    sampling: float = Field(
        ge=0, le=1, description="Share of all this that grows with the number of steps."
    )
    guidance: float = Field(ge=1, description="Factor on the sampling of a guided request.")
    adapters: float = Field(
        default=0, ge=0, description="Seconds that merging other adapters into the weights takes."
    )

    def of(self, batch: Sequence[ResolvedRequest], batches: int = 1) -> float:
        """Return the seconds of one batch, whose rows share steps and guidance; 0 if empty.

        A request has a row for each of its clips. ``batches``: as many, if they are too many. Loops
        go through the engine twice: the clip, then its seam.
        """
        if not batch:
            return 0.0
        longest = max(request.duration for request in batch)
        rows = sum(request.n * (2 if request.loop else 1) for request in batch)
        if any(request.loop for request in batch):
            batches *= 2
        seconds = batches * self.batch + rows * (self.row + self.second * longest)
        return seconds * self._factor(batch[0])

    @property
    def padding(self) -> float:
        """Return the seconds of audio whose padding is worth one batch less.

        They cost half of what a batch does by itself: those who wait for a batch of their own may
        yet find company there. All of it lengthens waits near saturation, half of it shortens
        them at every load (``bench/results/mixed_lengths.md``). Steps and guidance change both
        sides alike.
        """
        return self.batch / self.second / 2 if self.second else 0.0

    def _factor(self, request: ResolvedRequest) -> float:
        """Return the cost of the steps and guidance of ``request``, relative to the reference."""
        passes = self.guidance if request.cfg_scale != 1 else 1.0
        return 1 - self.sampling + self.sampling * passes * request.steps / REFERENCE_STEPS


class Calibration(BaseModel):
    """What a replica knows of its own batches: their cost, and the bounds within which they pay."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cost: Cost
    max_rows: int = Field(ge=1)
    max_seconds: float | None = Field(default=None, gt=0)
    """Most padded audio, rows times the longest; None: as configured."""


_PROCEDURAL: Final = Cost(batch=0, row=0.03, second=0.003, sampling=0, guidance=1)
"""Measured: 1 to 300 s clips of five prompts, on one core of an AMD EPYC (2026-11-24). Prompts
differ by a factor of five; steps and batches change nothing."""

_SMALL_CPU: Final = Cost(batch=0, row=11.4, second=1.156, sampling=0.88, guidance=2, adapters=1)
"""Measured: 17.2 s for a clip of 5 s and 46.1 s for one of 30 s, on one thread
(``bench/results/engine.md``); batches gain nothing there. Guidance evaluates the model twice.
Adapters of rank 16 on weights of these sizes: 0.6 to 1.4 s."""

_SMALL_CUDA: Final = Cost(
    batch=0.019, row=0.0017, second=0.0004, sampling=0.6, guidance=2, adapters=0.03
)
"""Measured on an H100 with random weights: 25 ms for a clip of 5 s, 80 for 16; 34 ms for one of
30 s, 136 for 8; 200 ms for four of 120 s (``bench/results/engine.md``). Adapters are not measured:
some 2,000 kernels, and 20 MB that go to the device."""

_MEDIUM_CUDA: Final = Cost(
    batch=0.030, row=0.0066, second=0.0013, sampling=0.5, guidance=2, adapters=0.06
)
"""As ``_SMALL_CUDA``: 75 ms for a clip of 30 s, 210 for 4, 397 for 8; 352 ms for two of 120 s."""

_MEDIUM_CPU: Final = Cost(batch=0, row=35, second=3.5, sampling=0.88, guidance=2, adapters=3)
"""Not measured: ``_SMALL_CPU`` times the three of the models' sizes. ``medium`` is for CUDA."""

_CUDA: Final = MappingProxyType[VariantName, Cost](
    {"small-sfx": _SMALL_CUDA, "small-music": _SMALL_CUDA, "medium": _MEDIUM_CUDA}
)
_CPU: Final = MappingProxyType[VariantName, Cost](
    {"small-sfx": _SMALL_CPU, "small-music": _SMALL_CPU, "medium": _MEDIUM_CPU}
)


def cost_of(variant: VariantName, engine: EngineName, *, gpu: bool) -> Cost:
    """Return the cost of clips of ``variant`` before anything was measured on this machine."""
    if engine == "procedural":
        return _PROCEDURAL
    return (_CUDA if gpu else _CPU)[variant]
