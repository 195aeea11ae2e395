"""The dispatcher deployment: leases queued jobs and has variants generate them."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Any, cast

import ray
from ray import ObjectRef, serve
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from sa_ray.contracts import AudioInfo, Job, JobView, VariantName
from sa_ray.jobs import JobSnapshot
from sa_ray.jobs.webhook_sender import WebhookSender
from sa_ray.serving.actors import jobs_client, uploader_client
from sa_ray.serving.deployment_options import capacity
from sa_ray.serving.dispatcher.attempt import Attempt
from sa_ray.serving.dispatcher.housekeeping import Housekeeping
from sa_ray.serving.dispatcher.leases import RENEW_PERIOD_S, Leases
from sa_ray.serving.job_view import job_view
from sa_ray.serving.messages import Progress
from sa_ray.serving.ray_errors import translate
from sa_ray.serving.serve_status import Starts, deployments_of
from sa_ray.settings import JobSettings, ModelSettings, StorageSettings, WebhookSettings
from sa_ray.storage import open_object_store
from sa_ray.telemetry import configure_logging

logger = logging.getLogger(__name__)

WATCH_PERIOD_S = 5.0
"""Period of asking Serve which models it has given up starting."""


class Dispatcher:
    """Holds no state that matters: what it leased is taken back if it dies, and leased again."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        models: ModelSettings,
        jobs: JobSettings,
        storage: StorageSettings,
        webhooks: WebhookSettings,
        variants: dict[VariantName, DeploymentHandle[Any]],
    ) -> None:
        configure_logging()
        self._worker = f"dispatcher-{uuid.uuid4().hex[:12]}"
        self._jobs = jobs_client(jobs)
        self._uploader = uploader_client(storage)
        self._variants = {
            name: handle.options(stream=True, _by_reference=True)
            for name, handle in variants.items()
        }
        self._starts = Starts()
        self._leases = Leases(
            self._worker,
            {name: capacity(models.spec(name)) for name in variants},
            self._jobs,
            self._begin,
        )
        housekeeping = Housekeeping(
            self._jobs,
            self._uploader,
            _webhook_sender(webhooks),
            _webhook_view(webhooks, storage),
        )
        loops = (
            *self._leases.loops(),
            self._watch_forever(serve.get_replica_context().app_name),
            self._be_watched(),
            *housekeeping.loops(),
        )
        self._loops = [asyncio.create_task(loop) for loop in loops]

    def check_health(self) -> None:
        for loop in self._loops:
            if loop.done():
                raise RuntimeError("a dispatcher loop has ended") from loop.exception()

    async def __del__(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await self._leases.hand_back()

    def _begin(self, job: Job, on_change: Callable[[], object]) -> Attempt:
        return Attempt(job, self._jobs, self._uploader, self._generate, on_change=on_change)

    async def _generate(
        self, job: Job, on_progress: Callable[[float], None]
    ) -> tuple[AudioInfo, "ObjectRef[bytes]"]:
        request = job.request
        response = cast(
            DeploymentResponseGenerator[Any], self._variants[request.model].stream.remote(request)
        )
        try:
            # The references, not the values: the audio goes to the uploader without passing here.
            references = await response._to_object_ref_gen()  # noqa: SLF001
            while isinstance(message := await (await anext(references)), Progress):
                on_progress(message.fraction)
            return message.info, await anext(references)
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]
            raise

    async def _watch_forever(self, app: str) -> None:
        """Pause models that cannot start: Serve would keep requests for them for ever."""
        while True:
            await asyncio.sleep(WATCH_PERIOD_S)
            try:
                self._starts.look(await deployments_of(app))
            except Exception as error:  # noqa: BLE001 - the next round asks again
                logger.warning("asking Serve for its deployments failed: %s", translate(error))
                continue
            self._leases.pause(self._starts.given_up)

    async def _be_watched(self) -> None:
        """Have the job actor notice if this process dies, whichever job actor there is. Ends only
        if Ray took it for dead and it is not: it gets no jobs any more and ought to be replaced."""
        process = ray.get_runtime_context().current_actor
        while True:
            try:
                await self._jobs.within(None).watch(self._worker, process)
            except Exception as error:  # noqa: BLE001 - without it, leases run out in time
                logger.warning("nobody watches this dispatcher: %s", translate(error))
                await asyncio.sleep(RENEW_PERIOD_S)
            else:
                return


def _webhook_sender(settings: WebhookSettings) -> WebhookSender | None:
    if settings.webhook_secret is None:
        return None
    return WebhookSender(
        settings.webhook_secret.get_secret_value(), allow_private=settings.webhook_allow_private
    )


def _webhook_view(webhooks: WebhookSettings, storage: StorageSettings) -> Callable[[Job], JobView]:
    store = open_object_store(storage)
    base_url = webhooks.public_url or ""
    return lambda job: job_view(JobSnapshot(job, None), base_url=base_url, store=store)
