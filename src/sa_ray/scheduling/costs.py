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

    def of(self, batch: Sequence[ResolvedRequest]) -> float:
        """Return the seconds of one batch, whose rows share steps and guidance; 0 if empty."""
        if not batch:
            return 0.0
        longest = max(request.duration for request in batch)
        seconds = self.batch + len(batch) * (self.row + self.second * longest)
        return seconds * self._factor(batch[0])

    def _factor(self, request: ResolvedRequest) -> float:
        """Return the cost of the steps and guidance of ``request``, relative to the reference."""
        passes = self.guidance if request.cfg_scale != 1 else 1.0
        return 1 - self.sampling + self.sampling * passes * request.steps / REFERENCE_STEPS


_PROCEDURAL: Final = Cost(batch=0, row=0.03, second=0.003, sampling=0, guidance=1)
"""Measured: 1 to 300 s clips of five prompts, on one core of an AMD EPYC (2026-11-24). Prompts
differ by a factor of five; steps and batches change nothing."""

_SMALL_CPU: Final = Cost(batch=0, row=11.4, second=1.156, sampling=0.88, guidance=2)
"""Measured: 17.2 s for a clip of 5 s and 46.1 s for one of 30 s, on one thread
(``bench/results/engine.md``); batches gain nothing there. Guidance evaluates the model twice."""

_SMALL_CUDA: Final = Cost(batch=0.42, row=0, second=0.0003, sampling=0.9, guidance=2)
"""Not measured with this engine. Published by Stability AI for its package on an H200, eager, one
request at a time: 0.41, 0.46 and 0.45 s for 5, 30 and 120 s of audio. Assumed: the share of
sampling, and that the rows of a batch share the cost that does not grow with the length."""

_MEDIUM_CUDA: Final = Cost(batch=0.60, row=0, second=0.0019, sampling=0.9, guidance=2)
"""As ``_SMALL_CUDA``: 0.60, 0.65, 0.78 and 1.31 s for 5, 30, 120 and 380 s."""

_MEDIUM_CPU: Final = Cost(batch=0, row=35, second=3.5, sampling=0.88, guidance=2)
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
