"""Asynchronous HTTP client of the service."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import date

import httpx

from sa_ray.client import calls
from sa_ray.client.aio_jobs import AsyncJobCalls
from sa_ray.client.batches import PARALLEL, BatchResult, by_tasks, numbered
from sa_ray.client.calls import Audio
from sa_ray.client.wire import ApiError, Clip, clip_in, clips_in, require_one
from sa_ray.contracts import (
    GenerationRequest,
    HealthStatus,
    JobAccepted,
    LoraList,
    ModelList,
    PresetList,
    UploadView,
    UsageReport,
)


class AsyncClient(AsyncJobCalls):
    """``Client`` for asyncio and Trio: the same methods, arguments, tries and errors.

    Tasks may share a client. A ``generate`` or ``edit`` that is cancelled ends the work at the
    service too; a job goes on until ``cancel``.
    """

    async def health(self) -> HealthStatus:
        """Ask how the service fares, as ``Client.health``."""
        return await self._do(calls.health())

    async def models(self) -> ModelList:
        """Ask which models there are, and how each fares."""
        return await self._do(calls.models())

    async def presets(self, model: str | None = None) -> PresetList:
        """Ask for prompts to begin with, as ``Client.presets``."""
        return await self._do(calls.presets(model))

    async def loras(self, model: str | None = None) -> LoraList:
        """Ask which adapters there are, as ``Client.loras``."""
        return await self._do(calls.loras(model))

    async def usage(
        self, first: date | None = None, last: date | None = None, *, key: str | None = None
    ) -> UsageReport:
        """Ask what was made on which days, as ``Client.usage``."""
        return await self._do(calls.usage(first, last, key))

    async def generate(self, request: GenerationRequest) -> bytes:
        """Generate one clip and return its encoded bytes, as ``Client.generate``."""
        require_one(request)
        return clip_in(await self._do(calls.generation(request)))

    async def generate_all(self, request: GenerationRequest) -> list[Clip]:
        """Generate the ``n`` clips of ``request``, as ``Client.generate_all``."""
        return clips_in(await self._do(calls.generation(request)))

    async def edit(
        self,
        request: GenerationRequest,
        *,
        init_audio: Audio | None = None,
        inpaint_audio: Audio | None = None,
        continue_audio: Audio | None = None,
    ) -> bytes:
        """Upload one file and generate from it, as ``Client.edit``."""
        require_one(request)
        name, audio = calls.source(init_audio, inpaint_audio, continue_audio)
        sent = await self.upload(audio)
        edited = request.model_copy(update={name: sent.id})
        return clip_in(await self._do(calls.generation(edited)))

    async def upload(self, audio: Audio) -> UploadView:
        """Send a file of audio, by path or bytes, as ``Client.upload``."""
        return await self._do(calls.upload(audio))

    async def submit(
        self,
        request: GenerationRequest,
        *,
        idempotency_key: str | None = None,
        webhook_url: str | None = None,
        webhook_secret: str | Sequence[str] | None = None,
    ) -> JobAccepted:
        """Submit a job, as ``Client.submit``."""
        call = calls.submission(request, idempotency_key, webhook_url, webhook_secret)
        return await self._do(call)

    async def submit_batch(
        self, requests: Sequence[GenerationRequest], *, idempotency_key: str | None = None
    ) -> list[JobAccepted | ApiError]:
        """Submit up to 1,000 jobs, as ``Client.submit_batch``."""
        return await self._do(calls.submissions(requests, idempotency_key))

    @asynccontextmanager
    async def batch(
        self,
        requests: Iterable[GenerationRequest],
        *,
        parallel: int = PARALLEL,
        idempotency_key: str | None = None,
    ) -> AsyncIterator[AsyncIterator[BatchResult]]:
        """Have a job made of each of ``requests``, as ``Client.batch``.

        ``async with client.batch(requests) as results: ...``.
        """

        async def make(index: int, request: GenerationRequest) -> BatchResult:
            key = idempotency_key and f"{idempotency_key}-{index}"
            try:
                accepted = await self.submit(request, idempotency_key=key)
                return BatchResult(index, request, await self.wait(accepted.id))
            except (ApiError, httpx.TransportError) as error:
                return BatchResult(index, request, error=error)

        async with by_tasks(make, numbered(requests, parallel), parallel) as results:
            yield results
