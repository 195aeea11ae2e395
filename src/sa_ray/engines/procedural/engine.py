"""``ProceduralEngine``: batches, steps, progress and cancellation."""

import logging
from collections.abc import Sequence

from sa_ray.contracts import SAMPLE_RATE, EngineName, ResolvedRequest, VariantName
from sa_ray.engines.port import Audio, BatchOutcome, Cancelled, Generated, IsCancelled, OnStep
from sa_ray.engines.procedural.rendering import Rendering
from sa_ray.errors import GenerationError

_log = logging.getLogger(__name__)

_FAILED = "The clip could not be rendered; the service's log says more."
"""What clients read: the exception's own text is for the log alone."""


class ProceduralEngine:
    """Renders prompt-shaped stereo sound on the CPU; implements ``Engine``.

    Audio is a function of (model, prompt, negative prompt, duration, seed, steps); ``cfg_scale``
    and ``chunked_decode`` have no meaning here and are ignored. No model is loaded.

    What is made from a source is the sound of the prompt, mixed with it or joined to it.
    """

    def __init__(self, variant: VariantName) -> None:
        self._variant = variant

    @property
    def name(self) -> EngineName:
        return "procedural"

    @property
    def device(self) -> str:
        return "cpu"

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
    def calibration(self) -> None:
        return None

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        """Advance every row by one step in turn, until all are done, dropped or failed."""
        outcomes: dict[int, BatchOutcome] = {}
        renderings: dict[int, Rendering] = {}
        for step in range(max((request.steps for request in batch), default=0)):
            for row, request in enumerate(batch):
                if row in outcomes:
                    continue
                if is_cancelled(row):
                    outcomes[row] = Cancelled()
                    renderings.pop(row, None)
                    continue
                try:
                    if step == 0:
                        source = sources[row] if sources else None
                        renderings[row] = Rendering(request, self._variant, source)
                    fraction = renderings[row].step()
                    if fraction >= 1:
                        outcomes[row] = Generated(renderings.pop(row).finished())
                except Exception:  # noqa: BLE001 - must not cost the batch mates
                    _log.exception(
                        "The procedural engine failed on %s, seed %s, %s s.",
                        *(request.model, request.seed, request.duration),
                    )
                    outcomes[row] = GenerationError(_FAILED)
                    renderings.pop(row, None)
                else:
                    on_step(row, fraction)
        return [outcomes[row] for row in range(len(batch))]

    def close(self) -> None:
        """Do nothing: it is in this process alone."""
