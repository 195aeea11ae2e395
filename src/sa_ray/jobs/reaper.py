"""Reap leases that ran out, and jobs that wait past their deadline."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from sa_ray.contracts import Job
from sa_ray.errors import ConflictError, JobNotFoundError, JobStoreError
from sa_ray.jobs import lifecycle
from sa_ray.jobs.ledger import Transition

logger = logging.getLogger(__name__)

Found = Callable[[float], Awaitable[list[Job]]]
"""Returns jobs to end at the given time, some of them at each call."""


class Apply(Protocol):
    def __call__(self, job_id: str, transition: Transition, /) -> Awaitable[Job]: ...


class Reaper:
    """Takes back leases that ran out, and ends queued jobs past their deadline.

    ``overdue`` finds queued jobs past their deadline, ``expired`` running ones whose lease ran out.
    ``apply`` stores a transition; ``clock`` returns Unix seconds, ``lease_ttl`` is in seconds.

    At first, and after an outage of the store, it leaves leases alone for ``lease_ttl``: workers
    that lived through the outage could not renew, and get their chance first.
    """

    def __init__(
        self,
        *,
        overdue: Found,
        expired: Found,
        apply: Apply,
        clock: Callable[[], float],
        lease_ttl: float,
    ) -> None:
        self._overdue = overdue
        self._expired = expired
        self._apply = apply
        self._clock = clock
        self._lease_ttl = lease_ttl
        self._hold_off()

    async def round(self) -> None:
        now = self._clock()
        try:
            late = await self._overdue(now)
            await asyncio.gather(*(self._end(job) for job in late))
            silent = await self._expired(now)
            if now >= self._held_off_until:
                await asyncio.gather(*(self._take_back(job) for job in silent))
        except JobStoreError as error:
            self._hold_off()
            logger.warning("Cannot take back expired leases now: %s", error.message)
        except Exception:  # a job that cannot be read must not cost the others their reaper
            logger.exception("Taking back expired leases failed")

    def _hold_off(self) -> None:
        self._held_off_until = self._clock() + self._lease_ttl

    async def _end(self, late: Job) -> None:
        with contextlib.suppress(ConflictError, JobNotFoundError):  # it was just leased or ended
            await self._apply(late.id, lifecycle.overdue)

    async def _take_back(self, silent: Job) -> None:
        try:
            job = await self._apply(silent.id, lifecycle.expire)
        except (ConflictError, JobNotFoundError):
            return  # it was renewed or ended meanwhile
        logger.warning(
            "Lease %d of job %s ran out in attempt %d: the job is %s",
            silent.token,
            silent.id,
            silent.attempts,
            job.status,
        )
