"""Check each clip before it leaves, and make a flawed one again where the client allows it."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sa_ray.contracts import MAX_SEED, ResolvedRequest
from sa_ray.engines import NOT_NUMBERS
from sa_ray.errors import GenerationError
from sa_ray.serving.variant.batcher import OnProgress, Rendered

logger = logging.getLogger(__name__)

Render = Callable[[ResolvedRequest, OnProgress], Awaitable[Rendered]]

FlawOf = Callable[[npt.NDArray[np.float32]], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Checked:
    """A clip that can be encoded, the seed it was made with, and what its client is to know."""

    rendered: Rendered
    seed: int
    warning: str | None


async def render_checked(
    render: Render,
    flaw_of: FlawOf,
    request: ResolvedRequest,
    on_progress: OnProgress,
    spacing: int = 1,
) -> Checked:
    """Render ``request``; if it is flawed and has ``retry_bad``, once more with another seed.

    That is ``spacing`` seeds further: one of several clips passes over those of the others. Like
    the first clip, the second is a function of the request alone. Raises ``GenerationError`` if
    neither can be encoded.
    """
    rendered = await render(request, on_progress)
    flaw = await flaw_of(rendered.samples)
    if flaw is None:
        return Checked(rendered, request.seed, None)
    logger.warning(
        "a clip of %s, %g s, with seed %d %s", request.model, request.duration, request.seed, flaw
    )
    if not request.retry_bad:
        advice = "Try another seed, or let retry_bad do so."
        return _judged(rendered, request.seed, flaw, advice)
    seed = (request.seed + spacing) % (MAX_SEED + 1)
    no_better = "That with seed {} was no better: try another prompt."
    try:
        second = await render(request.model_copy(update={"seed": seed}), on_progress)
        second = second.behind(rendered)
        second_flaw = await flaw_of(second.samples)
        return _judged(second, seed, second_flaw, no_better.format(request.seed))
    except GenerationError:
        # The first one can be heard, or that there is nothing to be heard.
        return _judged(rendered, request.seed, flaw, no_better.format(seed))


def _judged(rendered: Rendered, seed: int, flaw: str | None, advice: str) -> Checked:
    if flaw is None:
        return Checked(rendered, seed, None)
    told = f"The clip with seed {seed} {flaw}. {advice}"
    if flaw == NOT_NUMBERS:
        raise GenerationError(told)
    return Checked(rendered, seed, told)
