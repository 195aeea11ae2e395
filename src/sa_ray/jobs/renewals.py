"""Renew the leases of a worker, and take back those that it does not know of."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from sa_ray.contracts import Job
from sa_ray.errors import JobNotFoundError, JobStoreError, StaleLeaseError
from sa_ray.jobs.api import LeaseReport, LeaseVerdict
from sa_ray.jobs.progress import LiveProgress
from sa_ray.jobs.store_threads import StoreThreads
from sa_ray.jobs.stores.port import HeldLease, JobStore
from sa_ray.jobs.workers import Workers

logger = logging.getLogger(__name__)


class Renewals:
    """Takes in workers' reports, and gives the verdict on each lease.

    ``touch`` tells watchers that a job's progress has changed; ``release(job_id, token)`` hands a
    lease back. ``clock`` returns Unix seconds. For one event loop.
    """

    def __init__(
        self,
        store: JobStore,
        threads: StoreThreads,
        workers: Workers,
        progress: LiveProgress,
        *,
        touch: Callable[[str], None],
        release: Callable[[str, int], Awaitable[Job]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._threads = threads
        self._workers = workers
        self._progress = progress
        self._touch = touch
        self._release = release
        self._clock = clock

    async def renew(
        self, worker: str, reports: Sequence[LeaseReport], *, leasing: bool
    ) -> list[LeaseVerdict]:
        with self._workers.calling(worker):
            leases = await self._threads.renew(self._store.renew, worker, now=self._clock())
        now = self._clock()
        for report in reports:
            if self._progress.note(report.job_id, report.token, report.progress):
                self._touch(report.job_id)
        verdicts = {(lease.job_id, lease.token): _verdict(lease, now) for lease in leases}
        reported = [(report.job_id, report.token) for report in reports]
        for job_id, token in reported:
            if (job_id, token) not in verdicts:
                self._progress.drop(job_id, token)
                logger.info("%s lost lease %d of job %s", worker, token, job_id)
        if not leasing:
            for job_id, token in self._workers.unclaimed(worker, verdicts, reported):
                await self._take_unclaimed(worker, job_id, token)
        return [verdicts.get(lease, "lost") for lease in reported]

    async def _take_unclaimed(self, worker: str, job_id: str, token: int) -> None:
        logger.warning("%s does not know of its lease %d of job %s", worker, token, job_id)
        try:
            await self._release(job_id, token)
        except (StaleLeaseError, JobNotFoundError):
            pass  # it ended meanwhile
        except JobStoreError as error:  # the verdicts on other jobs matter more
            logger.warning("the lease could not be taken back: %s", error.message)


def _verdict(lease: HeldLease, now: float) -> LeaseVerdict:
    return "held" if lease.stop_at is None or now < lease.stop_at else "cancel"
