"""Count what batches cost, by the key that each row is made for."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import ray

from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.jobs import UsageMeter
from sa_ray.serving import metrics

OWNER: ContextVar[str] = ContextVar("owner", default="")
"""Name of the key that the work of a call is for. Whoever takes the call sets it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A row of a batch: its key, the seconds it waited for the engine, and what it would cost alone
    (only the ratio to the others counts)."""

    request: ResolvedRequest
    owner: str
    waited: float
    work: float


class Spending:
    """Records the metrics of batches, and counts their GPU-seconds: those of the engine times
    ``gpu``, the share of a GPU that it has."""

    def __init__(self, variant: VariantName, gpu: float, meter: UsageMeter) -> None:
        self._variant = variant
        self._gpu = gpu
        self._meter = meter

    def batch(self, rows: Sequence[Cost], seconds: float) -> None:
        """Count a batch that took ``seconds``, shared over ``rows`` by their work."""
        variant = self._variant
        metrics.BATCH_CLIPS.observe(len(rows), variant=variant)
        metrics.ENGINE_SECONDS.observe(seconds, variant=variant)
        audio = sum(row.request.duration for row in rows)
        metrics.AUDIO_RTF.observe(seconds / audio, variant=variant)
        for row in rows:
            metrics.QUEUE_WAIT.observe(row.waited, queue="replica", variant=variant)
        if self._gpu:
            self._share(rows, self._gpu * seconds)

    def _share(self, rows: Sequence[Cost], gpu_seconds: float) -> None:
        whole = sum(row.work for row in rows)
        for row in rows:
            spent = gpu_seconds * (row.work / whole if whole else 1 / len(rows))
            self._meter.add(row.owner, self._variant, gpu_seconds=spent)
            key = metrics.key_label(row.owner)
            metrics.GPU_SECONDS.add(spent, key=key, variant=self._variant)


def gpu_share() -> float:
    """Return the share of GPUs that Ray gives this process, as the operator has it; 0: none."""
    if not ray.is_initialized():
        return 0.0
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:  # a driver, which is given nothing
        return 0.0
    assigned: dict[str, float] = context.get_assigned_resources()  # type: ignore[no-untyped-call]
    return assigned.get("GPU", 0.0)
