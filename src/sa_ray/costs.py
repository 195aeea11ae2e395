"""What a clip costs: seconds of one replica, from its length, its steps and its guidance.

Only the proportions matter much: a replica corrects the scale by what its batches really take.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field

from sa_ray.contracts import EngineName, ResolvedRequest, VariantName

REFERENCE_STEPS: Final = 8
"""Sampling steps that the figures below are for: the default of the API."""

WEIGHT: Final = 0.1
"""Of the newest batch in the moving averages: those of the last ten or so batches count."""

MAX_RATIO: Final = 5.0
"""More than this many times its estimate, or as much less, no batch counts: what was held up once
must not ask for replicas."""


class Cost(BaseModel):
    """Seconds of one replica for a batch of ``n`` rows, of which the longest lasts ``d`` seconds:
    ``batch + n * (row + second * d)`` at ``REFERENCE_STEPS`` steps without guidance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: float = Field(ge=0, description="Seconds that a batch costs, whatever is in it.")
    row: float = Field(ge=0, description="Seconds that each row costs, whatever its length.")
    second: float = Field(ge=0, description="Seconds that each second of audio of a row costs.")
    sampling: float = Field(
        ge=0, le=1, description="Share of all this that grows with the number of steps."
    )
    guidance: float = Field(ge=1, description="Factor on the sampling of a guided request.")

    def of(self, batch: Sequence[ResolvedRequest]) -> float:
        """Seconds for one batch; its rows have steps and guidance in common. Empty: 0."""
        if not batch:
            return 0.0
        longest = max(request.duration for request in batch)
        seconds = self.batch + len(batch) * (self.row + self.second * longest)
        return seconds * self._factor(batch[0])

    def _factor(self, request: ResolvedRequest) -> float:
        """How much longer the steps and the guidance of ``request`` make it than the reference."""
        passes = self.guidance if request.cfg_scale != 1 else 1.0
        return 1 - self.sampling + self.sampling * passes * request.steps / REFERENCE_STEPS


@dataclass(frozen=True, slots=True)
class Estimator:
    """Costs where at most ``max_rows`` requests and ``max_seconds`` of padded audio (rows times the
    longest) make a batch. ``scale``: what batches really take, over what ``cost`` says. ``fill``:
    what requests cost in the batches that a crowd of them makes, over what they cost in full
    batches; more than 1 where lengths or steps are too various for those."""

    cost: Cost
    max_rows: int
    max_seconds: float
    scale: float = 1.0
    fill: float = 1.0

    def batch(self, requests: Sequence[ResolvedRequest]) -> float:
        """Seconds for one batch of ``requests``."""
        return self.scale * self.cost.of(requests)

    def share(self, request: ResolvedRequest) -> float:
        """Seconds that ``request`` takes of a batch where much waits: full ones of its like, or
        less full by ``fill``."""
        rows = max(1, min(self.max_rows, int(self.max_seconds / request.duration)))
        return self.fill * self.batch([request] * rows) / rows

    def work(self, requests: Iterable[ResolvedRequest], at_most: float) -> float:
        """The sum of the shares of ``requests``, none of which counts more than ``at_most``."""
        return sum(min(self.share(request), at_most) for request in requests)

    def corrected(self, batch: Sequence[ResolvedRequest], seconds: float) -> Self:
        """With ``scale`` moved towards what ``batch`` took."""
        ratio = min(max(seconds / self.batch(batch), 1 / MAX_RATIO), MAX_RATIO)
        return replace(self, scale=self.scale * moved(1.0, ratio))


def moved(average: float, value: float) -> float:
    """The moving ``average`` with one more ``value``."""
    return average + WEIGHT * (value - average)


_PROCEDURAL: Final = Cost(batch=0, row=0.03, second=0.003, sampling=0, guidance=1)
"""Measured: 1 to 300 s clips of five prompts, on one core of an AMD EPYC (2026-11-24). Prompts
differ by a factor of five; neither steps nor batches change it."""

_SMALL_CPU: Final = Cost(batch=0, row=11.4, second=1.156, sampling=0.88, guidance=2)
"""Measured: 17.2 s for a clip of 5 s and 46.1 s for one of 30 s, on one thread
(``bench/results/engine.md``); batches gain nothing there. Guidance evaluates the model twice."""

_SMALL_CUDA: Final = Cost(batch=0.42, row=0, second=0.0003, sampling=0.9, guidance=2)
"""Not measured with this engine. Published by Stability AI for its package on an H200, eager, one
request at a time: 0.41, 0.46 and 0.45 s for 5, 30 and 120 s of audio. The share of sampling, and
that rows of a batch share what does not grow with the length, are assumptions."""

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
    """The cost of clips of ``variant`` before anything was measured on this machine."""
    if engine == "procedural":
        return _PROCEDURAL
    return (_CUDA if gpu else _CPU)[variant]
