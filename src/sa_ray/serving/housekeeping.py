"""What is left to do after jobs have ended: clean up, forget, and call webhooks.

Each task is found in the durable state and marked done there, so it survives whoever does it, and
several dispatchers may do it at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sa_ray.config import Settings
from sa_ray.contracts import FINAL_STATUSES, Job
from sa_ray.errors import ConflictError, JobNotFoundError
from sa_ray.jobs import JobSnapshot
from sa_ray.serving.actors import ActorClient
from sa_ray.serving.faults import translate
from sa_ray.serving.views import job_view
from sa_ray.storage import open_object_store
from sa_ray.telemetry import log_context
from sa_ray.webhooks import WebhookError, WebhookSender, job_event

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
OUTAGE_PERIOD_S = 10.0
"""Between two rounds while the job store or the object store is away."""

BATCH = 20


class Housekeeping:
    """Loops for a dispatcher to run."""

    def __init__(self, settings: Settings, jobs: ActorClient, uploader: ActorClient) -> None:
        self._settings = settings
        self._jobs = jobs
        self._uploader = uploader
        self._store = open_object_store(settings)
        self._sender: WebhookSender | None = None
        if settings.webhook_secret:
            self._sender = WebhookSender(
                settings.webhook_secret.get_secret_value(),
                allow_private=settings.webhook_allow_private,
            )

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        loops = [
            self._forever("unclean_jobs", self._clean_up),
            self._forever("expired_jobs", self._forget),
        ]
        if self._sender:
            loops.append(self._forever("start_webhooks", self._call_webhook))
        return loops

    async def _forever(self, listing: str, handle: Callable[[Job], Awaitable[None]]) -> None:
        while True:
            period = PERIOD_S
            try:
                jobs: list[Job] = await self._jobs.call(listing, BATCH)
                outcomes = await asyncio.gather(*map(handle, jobs), return_exceptions=True)
            except Exception as error:  # noqa: BLE001 - the work is still listed next time
                outcomes = [error]
            for outcome in outcomes:
                # Gone or changed meanwhile: someone else did it.
                if isinstance(outcome, Exception) and not isinstance(
                    outcome, JobNotFoundError | ConflictError
                ):
                    logger.warning("%s: %s", listing, translate(outcome).message)
                    period = OUTAGE_PERIOD_S
            await asyncio.sleep(period)

    async def _clean_up(self, job: Job) -> None:
        await self._uploader.call("discard", job.id, job.request.format)
        await self._jobs.call("cleaned", job.id)

    async def _forget(self, job: Job) -> None:
        await self._uploader.call("discard", job.id, job.request.format)
        await self._jobs.call("forget", job.id)
        logger.info("job %s has reached its age and is deleted", job.id)

    async def _call_webhook(self, job: Job) -> None:
        if self._sender is None or job.webhook is None or job.status not in FINAL_STATUSES:
            return
        view = job_view(
            JobSnapshot(job, None),
            base_url=self._settings.public_url or "",
            settings=self._settings,
            store=self._store,
        )
        attempt = job.webhook.attempts
        with log_context(job_id=job.id):
            try:
                await self._sender.send(job.webhook.url, job.id, job_event(view))
            except WebhookError as error:
                logger.warning("webhook attempt %d failed: %s", attempt, error)
                await self._jobs.call("webhook_failed", job.id, attempt, str(error))
            else:
                await self._jobs.call("webhook_delivered", job.id, attempt)
