"""Edits and loops: what goes into the engine for them, and what becomes of what comes out."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final, TypeVar

from sa_ray.audio import Span, smoothest_start, spliced, turned
from sa_ray.contracts import CROSSFADE, MAX_SEED, SAMPLE_RATE, Region, ResolvedRequest
from sa_ray.engines import Audio
from sa_ray.serving.variant.batcher import Batcher, OnProgress, Rendered
from sa_ray.serving.variant.sources import Sources

SEAM: Final = 2.0
"""Seconds that are made anew where the ends of a loop meet; half of the clip, if that is less."""

START_REACH: Final = 0.01
"""Seconds that the start of a loop may be moved by, to where its ends differ least."""

T = TypeVar("T")


class Editor:
    """Renders requests through a batcher: as they are, or with what edits and loops need.

    The arithmetic runs in ``threads``.
    """

    def __init__(self, batcher: Batcher, sources: Sources, threads: Executor) -> None:
        self._batcher = batcher
        self._sources = sources
        self._threads = threads

    async def render(self, request: ResolvedRequest, on_progress: OnProgress) -> Rendered:
        """Render ``request``. Raises as ``Batcher.render`` and ``Sources.audio`` do."""
        if not request.loop:
            return await self._clip(request, on_progress)
        once = request.model_copy(update={"loop": False})
        first = await self._clip(once, lambda fraction: on_progress(fraction / 2))
        return await self._closed(once, first, lambda fraction: on_progress((1 + fraction) / 2))

    async def _clip(self, request: ResolvedRequest, on_progress: OnProgress) -> Rendered:
        if request.source is None:
            return await self._batcher.render(request, on_progress)
        source = await self._sources.audio(request.source, _sample(request.duration))
        return await self._kept(request, source, on_progress)

    async def _closed(
        self, request: ResolvedRequest, first: Rendered, on_progress: OnProgress
    ) -> Rendered:
        """Make the sound anew where the end of a clip meets its start, and return the loop."""
        half = first.samples.shape[1] // 2
        seam = min(SEAM, request.duration / 2) / 2
        middle = (first.samples.shape[1] - half) / SAMPLE_RATE
        around = request.model_copy(
            update={
                "source": None,
                "init_noise_level": None,
                "regions": (Region(start=middle - seam, end=middle + seam),),
                # By the same seed, the middle of the clip would come once more.
                "seed": MAX_SEED - request.seed,
            }
        )
        opened = await self._threaded(lambda: turned(first.samples, half))
        closed = await self._kept(around, opened, on_progress)

        def begun() -> Audio:
            loop = turned(closed.samples, -half)
            return turned(loop, smoothest_start(loop, _sample(START_REACH)))

        loop = await self._threaded(begun)
        return replace(closed, samples=loop).behind(first)

    async def _kept(
        self, request: ResolvedRequest, source: Audio, on_progress: OnProgress
    ) -> Rendered:
        """Render with ``source``, and put it back outside the regions, if there are any."""
        made = await self._batcher.render(request, on_progress, source)
        if not request.regions:
            return made
        spans = [_span(region) for region in request.regions]
        fade = _sample(CROSSFADE)
        samples = await self._threaded(lambda: spliced(source, made.samples, spans, fade))
        return replace(made, samples=samples)

    async def _threaded(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _sample(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _span(region: Region) -> Span:
    return _sample(region.start), _sample(region.end)
