"""Call the webhooks of ended jobs: many at once, each host within its limit."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from sa_ray.contracts import Job, JobView, Webhook
from sa_ray.errors import ConflictError, JobNotFoundError
from sa_ray.jobs import Deferral
from sa_ray.jobs.webhook_hosts import WebhookHosts
from sa_ray.jobs.webhook_sender import WebhookError, WebhookSender, job_event
from sa_ray.jobs.webhook_urls import host_name, webhook_url
from sa_ray.serving.actors import JobsClient
from sa_ray.serving.dispatcher.housekeeping import OUTAGE_PERIOD_S, PERIOD_S
from sa_ray.serving.ray_errors import translate
from sa_ray.telemetry import log_context

logger = logging.getLogger(__name__)

BATCH = 256
"""Calls started in one round. The next round follows at once after a full one."""

MAX_CALLS = 512
"""Most calls at once, to all hosts together."""


class WebhookCalls:
    """A loop for a dispatcher to run. ``view`` gives what a webhook is told of a job.

    ``clock`` returns seconds that only grow.
    """

    def __init__(
        self,
        jobs: JobsClient,
        sender: WebhookSender,
        view: Callable[[Job], Awaitable[JobView]],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._jobs = jobs
        self._sender = sender
        self._view = view
        self._clock = clock
        self._sleep = sleep
        self._hosts = WebhookHosts()
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Call what is due, without end."""
        try:
            while True:
                try:
                    pause = 0.0 if await self._round() else PERIOD_S
                except Exception as error:  # noqa: BLE001 - what is due is listed next time
                    logger.warning("calling webhooks failed: %s", translate(error).message)
                    pause = OUTAGE_PERIOD_S
                await self._sleep(pause)
                while len(self._calls) >= MAX_CALLS:
                    await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for call in self._calls:
                call.cancel()

    async def _round(self) -> bool:
        """Start what is due; return whether more may be."""
        room = min(BATCH, MAX_CALLS - len(self._calls))
        started = await self._jobs.start_webhooks(room)
        deferrals = []
        for job in started:
            webhook = job.webhook
            if webhook is None:
                continue
            host = _host(webhook.url)
            delay = self._hosts.begin(host, self._clock())
            if delay is not None:
                deferrals.append(Deferral(job.id, webhook.attempts, delay))
                continue
            call = asyncio.create_task(self._call(job, webhook, host))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        if deferrals:
            await self._jobs.defer_webhooks(deferrals)
        return len(started) == room

    async def _call(self, job: Job, webhook: Webhook, host: str) -> None:
        began = self._clock()
        answered = True
        attempt = webhook.attempts
        with log_context(job_id=job.id):
            try:
                body = job_event(await self._view(job))
                await self._sender.send(webhook.url, job.id, body, webhook.sealed_secrets)
            except WebhookError as error:
                answered = error.answered
                logger.warning("webhook attempt %d failed: %s", attempt, error)
                report = self._jobs.webhook_failed(job.id, attempt, str(error))
            except Exception as error:  # noqa: BLE001 - it is tried again within a minute
                logger.warning("webhook attempt %d failed: %s", attempt, translate(error).message)
                return
            else:
                report = self._jobs.webhook_delivered(job.id, attempt)
            finally:
                now = self._clock()
                self._hosts.end(host, now, now - began, answered=answered)
            try:
                await report
            except (JobNotFoundError, ConflictError):
                pass  # it was deleted meanwhile
            except Exception as error:  # noqa: BLE001 - it is tried again within a minute
                logger.warning("could not report on a webhook: %s", translate(error).message)


def _host(text: str) -> str:
    try:
        url = webhook_url(text)
    except ValueError:
        return ""  # it is not called, whatever the limits are
    return f"{host_name(url).lower()}:{url.port}"
