"""Housekeeping after the end of jobs: clean up, and forget.

Each task is found in the durable state and marked done there, so it survives whoever does it, and
several dispatchers may do it at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from sa_ray.contracts import Job
from sa_ray.errors import ConflictError, JobNotFoundError, ObjectElsewhereError
from sa_ray.serving.actors import JobsClient, UploaderClient
from sa_ray.serving.ray_errors import translate

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
OUTAGE_PERIOD_S = 10.0
"""Between two rounds while the job store or the object store is away."""

BATCH = 256
"""Jobs of one round. The next round follows at once after a full one."""

Outcome = object
"""What became of one job: an exception if it must be handled again."""


class Housekeeping:
    """Loops for a dispatcher to run."""

    def __init__(
        self,
        jobs: JobsClient,
        uploader: UploaderClient,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._jobs = jobs
        self._uploader = uploader
        self._sleep = sleep

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Coroutines that never end."""
        return [
            self._forever("cleaning up", self._jobs.unclean_jobs, self._clean_up),
            self._forever("deleting old jobs", self._jobs.expired_jobs, self._forget),
        ]

    async def _forever(
        self,
        name: str,
        due: Callable[[int], Awaitable[list[Job]]],
        handle: Callable[[list[Job]], Awaitable[Sequence[Outcome]]],
    ) -> None:
        while True:
            try:
                jobs = await due(BATCH)
                outcomes = await handle(jobs) if jobs else []
                failures = [one for one in outcomes if isinstance(one, Exception)]
                more = len(jobs) == BATCH and len(failures) < BATCH
            except Exception as error:  # noqa: BLE001 - the work is still listed next time
                failures, more = [error], False
            if failures:
                reason = translate(failures[0]).message
                logger.warning("%s failed for %d jobs: %s", name, len(failures), reason)
            if not more:
                await self._sleep(OUTAGE_PERIOD_S if failures else PERIOD_S)

    async def _clean_up(self, jobs: list[Job]) -> Sequence[Outcome]:
        return await self._finish(jobs, self._uploader.tidy, self._jobs.cleaned_all)

    async def _forget(self, jobs: list[Job]) -> Sequence[Outcome]:
        outcomes = await self._finish(jobs, self._uploader.discard, self._jobs.forget_all)
        deleted = sum(not isinstance(one, Exception) for one in outcomes)
        logger.info("%d jobs have reached their age and are deleted", deleted)
        return outcomes

    async def _finish(
        self,
        jobs: list[Job],
        remove: Callable[[Sequence[Job]], Awaitable[Sequence[Exception | None]]],
        mark: Callable[[Sequence[Job]], Awaitable[Sequence[Outcome]]],
    ) -> Sequence[Outcome]:
        """Mark the jobs of which the objects are removed, or are out of reach for good."""
        kept: list[Exception] = []
        done: list[Job] = []
        for job, refusal in zip(jobs, await remove(jobs), strict=True):
            if refusal is not None and not isinstance(refusal, ObjectElsewhereError):
                kept.append(refusal)
                continue
            if refusal is not None:
                # Kept jobs would be the first due for ever, and nobody else's turn would come.
                logger.warning("the audio of job %s is left behind: %s", job.id, refusal.message)
            done.append(job)
        outcomes = await mark(done) if done else ()
        # Gone or changed meanwhile: someone else did it.
        others = (JobNotFoundError, ConflictError)
        return [*kept, *(None if isinstance(one, others) else one for one in outcomes)]
