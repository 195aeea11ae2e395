"""Estimate the seconds of work of waiting requests, corrected by measured batch times."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, TypeVar

from sa_ray.contracts import Lora, ResolvedRequest
from sa_ray.scheduling.batch_rule import Bounds, take_batch
from sa_ray.scheduling.costs import Calibration, Cost

T = TypeVar("T")

WEIGHT: Final = 0.1
"""Weight of the newest batch in moving averages, which cover about the last ten batches."""

MAX_RATIO: Final = 5.0
"""Clamp on measured/estimated time, so one stalled batch cannot trigger scaling."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """Costs of requests that are batched.

    ``max_rows`` clips and ``max_seconds`` of padded audio (rows times the longest) bound a batch.
    ``scale``: measured over estimated time of batches. ``fill``: cost per clip in batches formed
    under load, relative to full batches; above 1 when mixed lengths keep batches from filling.
    """

    cost: Cost
    max_rows: int
    max_seconds: float
    scale: float = 1.0
    fill: float = 1.0

    def batch(self, requests: Sequence[ResolvedRequest]) -> float:
        """Return the seconds of one batch of ``requests``; of several where one has too many clips
        for one batch."""
        if not requests:
            return 0.0
        rows = sum(request.n for request in requests)
        longest = max(request.duration for request in requests)
        fits = rows <= self.max_rows and rows * longest <= self.max_seconds
        batches = 1 if fits else math.ceil(rows / self._rows(longest))
        return self.scale * self.cost.of(requests, batches)

    def change(self, before: Sequence[Lora], after: Sequence[Lora]) -> float:
        """Return the seconds that a batch takes longer if others' adapters are in the weights."""
        return 0.0 if before == after else self.scale * self.cost.adapters

    def next_batch(
        self, waiting: Sequence[T], request_of: Callable[[T], ResolvedRequest]
    ) -> tuple[list[T], list[T]]:
        """Split ``waiting`` into the next batch within the bounds, and the rest, both in order."""
        bounds = Bounds(self.max_rows, self.max_seconds, self.cost.padding)
        return take_batch(waiting, request_of, bounds)

    def share(self, request: ResolvedRequest) -> float:
        """Seconds that ``request`` costs under load: its part of a full batch, by ``fill``."""
        rows = self._rows(request.duration)
        return request.n * self.fill * self.full_batch(request) / rows

    def full_batch(self, request: ResolvedRequest) -> float:
        """Return the seconds of a full batch of single clips such as those of ``request``."""
        one = request if request.n == 1 else request.model_copy(update={"n": 1})
        return self.batch([one] * self._rows(request.duration))

    def work(self, requests: Iterable[ResolvedRequest], at_most: float) -> float:
        """Return the summed shares of ``requests``, each at most ``at_most`` seconds."""
        return sum(min(self.share(request), at_most) for request in requests)

    def _rows(self, longest: float) -> int:
        """Return the most rows of a batch whose longest is so many seconds."""
        return max(1, min(self.max_rows, int(self.max_seconds / longest)))

    @property
    def calibration(self) -> Calibration:
        """Return the cost and the bounds, without what was learned of single batches."""
        return Calibration(cost=self.cost, max_rows=self.max_rows, max_seconds=self.max_seconds)

    def calibrated(self, calibration: Calibration) -> Self:
        """Take the cost and the bounds of ``calibration``."""
        return replace(
            self,
            cost=calibration.cost,
            max_rows=calibration.max_rows,
            max_seconds=calibration.max_seconds or self.max_seconds,
        )

    def corrected(
        self, batch: Sequence[ResolvedRequest], seconds: float, change: float = 0.0
    ) -> Self:
        """Move ``scale`` towards the ``seconds`` that ``batch`` took, of which ``change`` were
        estimated for a change of adapters."""
        ratio = min(max(seconds / (change + self.batch(batch)), 1 / MAX_RATIO), MAX_RATIO)
        return replace(self, scale=self.scale * moved(1.0, ratio))


def moved(average: float, value: float) -> float:
    """Move ``average`` towards ``value`` by ``WEIGHT``."""
    return average + WEIGHT * (value - average)
