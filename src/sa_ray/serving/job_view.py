"""Views of stored jobs for their clients."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from sa_ray.contracts import (
    ClipFields,
    Job,
    JobFile,
    JobTimings,
    JobView,
    StorageBackend,
    StoredObject,
)
from sa_ray.errors import (
    JobStoreError,
    ObjectElsewhereError,
    ObjectStoreError,
    UnavailableError,
)
from sa_ray.jobs import JobSnapshot
from sa_ray.serving.links import Links, LinkSigner
from sa_ray.storage import ObjectStores

logger = logging.getLogger(__name__)

T = TypeVar("T")

SIGNING_THREADS = 4
SIGNING_PATIENCE_S = 5.0
"""Time to mint URLs; more is taken only while credentials are fetched from a service that hangs."""


def status_url(base_url: str, job_id: str) -> str:
    """Return the job's URL. ``base_url``: the address the client used, without a trailing slash."""
    return f"{base_url}/jobs/{job_id}"


class JobViews:
    """Builds the views of jobs. For one event loop, which it never blocks.

    A presigned URL is minted in a thread: it takes a while, and longer when the credentials that
    sign it have to be fetched. ``links`` sign the URLs of this service, for jobs with an owner;
    None: a key is sent with all requests.
    """

    def __init__(self, stores: ObjectStores, links: Links | None = None) -> None:
        self._stores = stores
        self._links = links
        self._threads = ThreadPoolExecutor(SIGNING_THREADS, "url-signing")

    async def of(self, snapshots: Sequence[JobSnapshot], base_url: str) -> list[JobView]:
        """Return the views. The download URLs are minted now, so they are never stale.

        ``base_url``: the address the client used, without a trailing slash.
        """
        done = [one.job for one in snapshots if one.job.result]
        urls: dict[str, list[str | None]] = {}
        if done:
            try:
                signer = await self._signer(done)
                urls = await self._in_time(lambda: self._urls(done, base_url, signer))
            except (ObjectStoreError, JobStoreError, UnavailableError) as error:
                logger.warning("no download URLs: %s", error.message)
        return [
            _job_view(one, base_url, urls.get(one.job.id, ()), self._stores.current.backend)
            for one in snapshots
        ]

    async def one(self, snapshot: JobSnapshot, base_url: str) -> JobView:
        [view] = await self.of([snapshot], base_url)
        return view

    async def url(self, stored: StoredObject) -> str | None:
        """Return the object's address outside the service; None if it has none.

        Raises ``ObjectElsewhereError`` or ``ObjectStoreError``.
        """
        return await self._in_time(lambda: self._stores.url(stored))

    async def _signer(self, jobs: Sequence[Job]) -> LinkSigner | None:
        return await self._links.ready() if self._links and any(job.owner for job in jobs) else None

    def _urls(
        self, jobs: Sequence[Job], base_url: str, signer: LinkSigner | None
    ) -> dict[str, list[str | None]]:
        return {
            job.id: [
                self._clip_url(job.id, index, clip.object, base_url, signer if job.owner else None)
                for index, clip in enumerate(job.result.clips if job.result else ())
            ]
            for job in jobs
        }

    def _clip_url(
        self,
        job_id: str,
        index: int,
        stored: StoredObject,
        base_url: str,
        signer: LinkSigner | None,
    ) -> str | None:
        which = [f"index={index}"] if index else []
        if signer:
            which.append(signer.query(job_id, index))
        query = f"?{'&'.join(which)}" if which else ""
        try:
            return self._stores.url(stored) or f"{base_url}/jobs/{job_id}/audio{query}"
        except (ObjectStoreError, ObjectElsewhereError) as error:
            # The job can be read all the same; the audio route says what is wrong.
            logger.warning("no URL for job %s: %s", job_id, error.message)
            return None

    async def _in_time(self, mint: Callable[[], T]) -> T:
        if self._stores.current.backend == "local":
            return mint()  # it only joins texts
        work = asyncio.get_running_loop().run_in_executor(self._threads, mint)
        try:
            return await asyncio.wait_for(work, SIGNING_PATIENCE_S)
        except TimeoutError:
            raise ObjectStoreError(
                f"Signing a URL took more than {SIGNING_PATIENCE_S:g} seconds: the credentials "
                "cannot be fetched. Try again later.",
                retry_after_s=5,
            ) from None


def _job_view(
    snapshot: JobSnapshot, base_url: str, urls: Sequence[str | None], backend: StorageBackend
) -> JobView:
    """Build a view. ``urls``: of each clip; none at all where they could not be minted."""
    job = snapshot.job
    request, result = job.request, job.result
    return JobView(
        id=job.id,
        status=job.status,
        status_url=status_url(base_url, job.id),
        **request.model_dump(include=set(ClipFields.model_fields) - {"seed"}),
        loras=list(request.loras),
        seed=result.audio.seed_of(request) if result else request.seed,
        created_at=_time(job.created_at),
        started_at=_time_or_none(job.started_at),
        completed_at=_time_or_none(job.completed_at),
        priority=job.priority,
        expires_at=_time_or_none(job.deadline),
        queue_position=snapshot.queue_position,
        progress=100.0 if job.status == "succeeded" else round(100 * job.progress, 1),
        attempts=job.attempts,
        cancel_requested=job.cancel_requested,
        engine=result.audio.engine if result else None,
        sample_rate=result.audio.sample_rate if result else None,
        channels=result.audio.channels if result else None,
        audio_duration=result.audio.duration if result else None,
        size_bytes=result.object.size if result else None,
        sha256=result.object.sha256 if result else None,
        warning=result.audio.warning if result else None,
        download_url=urls[0] if urls else None,
        storage_backend=result.object.backend if result else backend,
        storage_key=result.object.key if result else None,
        error=job.error.message if job.error else None,
        error_code=job.error.code if job.error else None,
        results=_files(job, urls),
        timings=_timings(job),
    )


def _files(job: Job, urls: Sequence[str | None]) -> list[JobFile]:
    clips = job.result.clips if job.result else ()
    return [
        JobFile(
            index=index,
            seed=clip.audio.seed_of(job.request),
            download_url=urls[index] if urls else None,
            size_bytes=clip.object.size,
            sha256=clip.object.sha256,
            audio_duration=clip.audio.duration,
            warning=clip.audio.warning,
            storage_key=clip.object.key,
        )
        for index, clip in enumerate(clips)
    ]


def _timings(job: Job) -> JobTimings:
    return JobTimings(
        queued_seconds=_between(job.created_at, job.started_at),
        generation_seconds=job.result.audio.generation_seconds if job.result else None,
        upload_seconds=job.result.upload_seconds if job.result else None,
        total_seconds=_between(job.created_at, job.completed_at),
    )


def _between(start: float, end: float | None) -> float | None:
    return None if end is None else round(end - start, 3)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _time_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
