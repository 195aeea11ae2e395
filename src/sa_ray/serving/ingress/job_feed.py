"""Watch jobs for the clients of this replica: one call to the job actor serves all of them."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from sa_ray.contracts import FINAL_STATUSES
from sa_ray.errors import OverloadedError, SaRayError, UnavailableError
from sa_ray.jobs import ChangedJobs, JobChange, JobSnapshot, change_of

logger = logging.getLogger(__name__)

CALL_S = 5.0
"""Longest call to the job actor without a change."""

PAUSE_S = 0.05
"""Least pause between two calls: on a busy service there is always a change."""

LOOK_AGAIN_S = 15.0
"""Seconds after which a job is read without a sign of change: a second service on the same store
tells nothing to this one's actor."""

LOOKED_AT = 256
"""Most jobs that are read again without a sign of change, a call."""

ANSWER_S = 25.0
"""Longest time until a job is watched: without a job actor, callers are told within 30 s."""

RETRY_AFTER_S = 5


class JobFeed:
    """Hands each change of a watched job to all who watch it. For one event loop.

    ``changed`` is ``JobApi.changed``, and ``read`` reads a job. At most ``limit`` may watch at a
    time; without an answer they wait ``answer_s`` seconds. Who watches joins before the job is
    read, so that no change falls in between.
    """

    def __init__(
        self,
        changed: Callable[[str | None, float], Awaitable[ChangedJobs]],
        read: Callable[[str], Awaitable[JobSnapshot]],
        limit: int,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._changed = changed
        self._read = read
        self._limit = limit
        self._answer_s = answer_s
        self.watchers = 0
        """How many watch now."""
        self._jobs: dict[str, _WatchedJob] = {}
        self._listening: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()

    async def end(self, job_id: str, timeout_s: float) -> JobSnapshot:
        """Return the job once it has ended, or as it is after ``timeout_s`` seconds.

        Raises as ``watch`` does.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        async with self.watch(job_id) as job:
            while (remaining := deadline - loop.time()) > 0:
                if job.change.snapshot.job.status in FINAL_STATUSES:
                    break
                await job.news(remaining)
            return job.change.snapshot

    async def follow(self, job_id: str, silence_s: float) -> AsyncGenerator[JobChange | None, None]:
        """Yield the job as it is and each change until it has ended; None after each
        ``silence_s`` seconds without one.

        Raises as ``watch`` does.
        """
        async with self.watch(job_id) as job:
            seen = None
            while True:
                change = job.change
                yield change if change.event_id != seen else None
                seen = change.event_id
                if change.snapshot.job.status in FINAL_STATUSES:
                    return
                if job.change.event_id == seen:
                    await job.news(silence_s)

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator["_WatchedJob"]:
        """Have a job watched within the block.

        Raises ``OverloadedError`` over the limit, and whatever reading the job raises, then or
        later: ``JobNotFoundError`` once it is deleted, ``UnavailableError`` without a job actor.
        """
        if self.watchers >= self._limit:
            raise OverloadedError(
                f"{self._limit} requests wait for jobs here already, the limit that "
                f"STABLE_AUDIO_MAX_WAITING_REQUESTS sets. Ask without waiting, or try again in "
                f"{RETRY_AFTER_S} seconds.",
                retry_after_s=RETRY_AFTER_S,
            )
        self.watchers += 1
        job = self._jobs.setdefault(job_id, _WatchedJob(job_id, self._read))
        job.watchers += 1
        try:
            async with self._deadline():
                await self._listens().wait()
                await job.first_read()
            yield job
        finally:
            self.watchers -= 1
            job.watchers -= 1
            if not job.watchers and self._jobs.get(job_id) is job:
                del self._jobs[job_id]

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._answer_s):
                yield
        except TimeoutError:
            raise UnavailableError(
                "The job actor does not answer.", retry_after_s=RETRY_AFTER_S
            ) from None

    def _listens(self) -> asyncio.Event:
        """Return an event that is set once every later change will be heard of."""
        if self._listening is None:
            self._heard = asyncio.Event()
            # In a context of its own: in that of a request, Ray would take the call for a part
            # of the request, and cancel both together.
            self._listening = asyncio.get_running_loop().create_task(
                self._listen_while_watched(), context=contextvars.Context()
            )
        return self._heard

    async def _listen_while_watched(self) -> None:
        try:
            cursor = (await self._changed(None, CALL_S)).cursor
            self._heard.set()
            while self._jobs:
                told = await self._changed(cursor, CALL_S)
                cursor = told.cursor
                await self._look_at(told.job_ids)
                await asyncio.sleep(PAUSE_S)
        except Exception as error:  # noqa: BLE001 - raised again in those who watch
            logger.warning("watching jobs failed: %s", error)
            for job_id in [*self._jobs]:
                self._jobs.pop(job_id).fail(error)
        finally:
            self._listening = None
            self._heard.set()

    async def _look_at(self, changed: Collection[str] | None) -> None:
        """Read the watched jobs that changed, all if None; and some that were silent for long."""
        jobs = self._jobs
        named = [*jobs] if changed is None else [one for one in changed if one in jobs]
        before = asyncio.get_running_loop().time() - LOOK_AGAIN_S
        silent = [job_id for job_id, job in jobs.items() if job.read_at < before]
        await asyncio.gather(*(self._refresh(jobs[one]) for one in {*named, *silent[:LOOKED_AT]}))

    async def _refresh(self, job: "_WatchedJob") -> None:
        try:
            await job.refresh()
        except SaRayError as error:
            if self._jobs.get(job.id) is job:
                del self._jobs[job.id]
            job.fail(error)


class _WatchedJob:
    """The latest change of a job, for all who watch it here."""

    def __init__(self, job_id: str, read: Callable[[str], Awaitable[JobSnapshot]]) -> None:
        self.id = job_id
        self.watchers = 0
        self.read_at = asyncio.get_running_loop().time()
        self._read = read
        self._reading = asyncio.Lock()
        self._change: JobChange | None = None
        self._error: Exception | None = None
        self._news = asyncio.Event()

    @property
    def change(self) -> JobChange:
        if self._error:
            raise self._error
        if self._change is None:
            raise LookupError(f"job {self.id} has not been read yet")
        return self._change

    async def news(self, timeout_s: float) -> None:
        """Return at the next change, or after ``timeout_s`` seconds."""
        news = self._news
        try:
            async with asyncio.timeout(timeout_s):
                await news.wait()
        except TimeoutError:
            pass

    async def first_read(self) -> None:
        if self._change is None:
            async with self._reading:
                if self._change is None and self._error is None:
                    self._note(change_of(await self._read(self.id)))

    async def refresh(self) -> None:
        # One after the other, or an older answer might overtake a newer one.
        async with self._reading:
            self._note(change_of(await self._read(self.id)))

    def fail(self, error: Exception) -> None:
        """Raise ``error`` to all who watch."""
        self._error = error
        self._tell()

    def _note(self, change: JobChange) -> None:
        self.read_at = asyncio.get_running_loop().time()
        told, self._change = self._change, change
        if told is None or told.event_id != change.event_id:
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
