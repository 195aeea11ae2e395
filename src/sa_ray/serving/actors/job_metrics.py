"""Record metrics of jobs, as the coordinator tells of them."""

import asyncio
import logging
import math

from sa_ray.contracts import FINAL_STATUSES, Job
from sa_ray.jobs import JobCoordinator
from sa_ray.serving import metrics

logger = logging.getLogger(__name__)

PERIOD_S = 5.0
"""Period of the gauges."""


class JobMetrics:
    """A ``JobObserver``."""

    def submitted(self, job: Job) -> None:
        """Do nothing: the requests are counted where they are answered."""

    def leased(self, job: Job) -> None:
        variant = job.request.model
        metrics.JOB_ATTEMPTS.add(variant=variant)
        if job.token == 1 and job.started_at is not None:
            waited = max(0.0, job.started_at - job.created_at)
            metrics.QUEUE_WAIT.observe(waited, queue="jobs", variant=variant)

    def changed(self, before: Job, after: Job) -> None:
        if before.status in FINAL_STATUSES or before.status == after.status:
            return
        variant = after.request.model
        if after.status == "queued":
            metrics.JOB_RETRIES.add(reason=_reason(before, after), variant=variant)
        if after.status not in FINAL_STATUSES:
            return
        metrics.JOB_ENDINGS.add(status=after.status, variant=variant)
        if after.result:
            seconds = math.fsum(clip.audio.duration for clip in after.result.clips)
            key = metrics.key_label(after.owner)
            metrics.AUDIO_SECONDS.add(seconds, key=key, variant=variant)


async def watch_queues(jobs: JobCoordinator) -> None:
    """Record what waits and what runs, without end."""
    while metrics.ENABLED:
        try:
            for variant, counts in (await jobs.counts()).items():
                for status, count in counts.items():
                    metrics.JOBS.set(count, status=status, variant=variant)
                metrics.QUEUE_AGE.set(await jobs.queue_age(variant), variant=variant)
        except Exception as error:  # noqa: BLE001 - a watch outlives what it watches
            logger.warning("the queues could not be counted: %s", error)
        await asyncio.sleep(PERIOD_S)


def _reason(before: Job, after: Job) -> str:
    if after.losses > before.losses:
        return "lost"
    return "fault" if after.attempts == before.attempts else "released"
