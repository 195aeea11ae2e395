"""Housekeeping after the end of jobs: clean up, forget, call webhooks.

Each task is found in the durable state and marked done there, so it survives whoever does it, and
several dispatchers may do it at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sa_ray.contracts import FINAL_STATUSES, Job, JobView
from sa_ray.errors import ConflictError, JobNotFoundError
from sa_ray.jobs.webhook_sender import WebhookError, WebhookSender, job_event
from sa_ray.serving.actors import JobsClient, UploaderClient
from sa_ray.serving.ray_errors import translate
from sa_ray.telemetry import log_context

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
OUTAGE_PERIOD_S = 10.0
"""Between two rounds while the job store or the object store is away."""

BATCH = 20


class Housekeeping:
    """Loops for a dispatcher to run.

    ``sender``: None if no webhooks are called; ``view`` gives what a webhook is told of a job.
    """

    def __init__(
        self,
        jobs: JobsClient,
        uploader: UploaderClient,
        sender: WebhookSender | None,
        view: Callable[[Job], JobView],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._jobs = jobs
        self._uploader = uploader
        self._sender = sender
        self._view = view
        self._sleep = sleep

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Coroutines that never end."""
        loops = [
            self._forever("cleaning up", self._jobs.unclean_jobs, self._clean_up),
            self._forever("deleting old jobs", self._jobs.expired_jobs, self._forget),
        ]
        if self._sender:
            call = self._call_webhook
            loops.append(self._forever("calling webhooks", self._jobs.start_webhooks, call))
        return loops

    async def _forever(
        self,
        name: str,
        due: Callable[[int], Awaitable[list[Job]]],
        handle: Callable[[Job], Awaitable[None]],
    ) -> None:
        while True:
            period = PERIOD_S
            try:
                jobs = await due(BATCH)
                outcomes = await asyncio.gather(*map(handle, jobs), return_exceptions=True)
            except Exception as error:  # noqa: BLE001 - the work is still listed next time
                outcomes = [error]
            for outcome in outcomes:
                # Gone or changed meanwhile: someone else did it.
                if isinstance(outcome, Exception) and not isinstance(
                    outcome, JobNotFoundError | ConflictError
                ):
                    logger.warning("%s failed: %s", name, translate(outcome).message)
                    period = OUTAGE_PERIOD_S
            await self._sleep(period)

    async def _clean_up(self, job: Job) -> None:
        await self._uploader.discard(job.id, job.request.format)
        await self._jobs.cleaned(job.id)

    async def _forget(self, job: Job) -> None:
        await self._uploader.discard(job.id, job.request.format)
        await self._jobs.forget(job.id)
        logger.info("job %s has reached its age and is deleted", job.id)

    async def _call_webhook(self, job: Job) -> None:
        if self._sender is None or job.webhook is None or job.status not in FINAL_STATUSES:
            return
        attempt = job.webhook.attempts
        with log_context(job_id=job.id):
            try:
                await self._sender.send(job.webhook.url, job.id, job_event(self._view(job)))
            except WebhookError as error:
                logger.warning("webhook attempt %d failed: %s", attempt, error)
                await self._jobs.webhook_failed(job.id, attempt, str(error))
            else:
                await self._jobs.webhook_delivered(job.id, attempt)
