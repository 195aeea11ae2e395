"""The dispatcher deployment: leases queued jobs and has variants generate them."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

from ray import ObjectRef, serve
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from sa_ray.contracts import AudioInfo, Job, JobView, ResolvedRequest, VariantName
from sa_ray.errors import InfrastructureError
from sa_ray.jobs import JobSnapshot
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.jobs.webhook_sender import WebhookSender
from sa_ray.serving.actors import JobsClient, jobs_client, uploader_client
from sa_ray.serving.cluster_room import cluster_room
from sa_ray.serving.deployment_options import capacity
from sa_ray.serving.dispatcher.attempt import Attempt
from sa_ray.serving.dispatcher.housekeeping import Housekeeping
from sa_ray.serving.dispatcher.leases import Leases
from sa_ray.serving.dispatcher.upload_sweep import UploadSweep
from sa_ray.serving.dispatcher.webhook_calls import WebhookCalls
from sa_ray.serving.job_view import JobViews
from sa_ray.serving.links import Links
from sa_ray.serving.messages import BusyReplica, Progress
from sa_ray.serving.ray_errors import translate
from sa_ray.serving.rerouting import rerouted
from sa_ray.serving.serve_status import Starts, deployments_of, running_replicas
from sa_ray.settings import JobSettings, ModelSettings, StorageSettings, WebhookSettings
from sa_ray.storage import ObjectStores
from sa_ray.telemetry import (
    close_tracing,
    configure_logging,
    configure_tracing,
    current_traceparent,
)

logger = logging.getLogger(__name__)

WATCH_PERIOD_S = 2.0
"""Period of asking Serve how many replicas run, and which models it has given up starting."""


class Dispatcher:
    """Holds no state that matters: what it leased is taken back if it dies, and leased again."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        models: ModelSettings,
        jobs: JobSettings,
        storage: StorageSettings,
        webhooks: WebhookSettings,
        authorities: str | None,
        public_url: str | None,
        variants: dict[VariantName, DeploymentHandle[Any]],
    ) -> None:
        """``authorities``: in PEM, those to trust besides the public ones in webhook calls."""
        configure_logging()
        configure_tracing()
        self._worker = f"dispatcher-{uuid.uuid4().hex[:12]}"
        self._jobs = jobs_client(jobs)
        self._uploader = uploader_client(storage)
        self._variants = {
            name: handle.options(stream=True, _by_reference=True)
            for name, handle in variants.items()
        }
        self._specs = {name: models.spec(name) for name in variants}
        self._running = dict.fromkeys(self._specs, 0)
        self._starts = Starts()
        self._leases = Leases(
            self._worker,
            self._capacity(),
            self._jobs,
            self._begin,
        )
        self._webhooks = _webhook_sender(webhooks.opened(), authorities)
        webhook_loops = []
        if self._webhooks:
            view = _webhook_view(public_url, storage, self._jobs)
            webhook_loops.append(WebhookCalls(self._jobs, self._webhooks, view).run())
        loops = (
            *self._leases.loops(),
            self._watch_forever(serve.get_replica_context().app_name),
            *Housekeeping(self._jobs, self._uploader).loops(),
            UploadSweep(self._jobs, self._uploader, storage.upload_ttl).run(),
            *webhook_loops,
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
        if self._webhooks:
            await self._webhooks.close()
        await close_tracing()

    def _begin(self, job: Job, on_change: Callable[[], object]) -> Attempt:
        return Attempt(job, self._jobs, self._uploader, self._generate, on_change=on_change)

    async def _generate(
        self, job: Job, on_progress: Callable[[float], None]
    ) -> list[tuple[AudioInfo, "ObjectRef[bytes]"]]:
        request = job.request.traced(current_traceparent())
        return await rerouted(
            request,
            self._running[request.model],
            lambda request: self._sent(request, job.owner, on_progress),
            lambda request, _: self._sent(request, job.owner, on_progress),
        )

    async def _sent(
        self, request: ResolvedRequest, owner: str, on_progress: Callable[[float], None]
    ) -> "list[tuple[AudioInfo, ObjectRef[bytes]]] | BusyReplica":
        response = cast(
            DeploymentResponseGenerator[Any],
            # Replicas of a release without keys take no owner.
            self._variants[request.model].stream.remote(request, *([owner] if owner else [])),
        )
        try:
            # The references, not the values: the audio goes to the uploader without passing here.
            references = await response._to_object_ref_gen()  # noqa: SLF001
            clips: list[tuple[AudioInfo, ObjectRef[bytes]]] = []
            while len(clips) < request.n:
                message = await (await anext(references))
                if isinstance(message, BusyReplica):
                    return message
                if isinstance(message, Progress):
                    on_progress(message.fraction)
                else:
                    clips.append((message.info, await anext(references)))
            return clips
        except StopAsyncIteration:
            raise InfrastructureError("A replica of an earlier release made one clip.") from None
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]
            raise

    async def _watch_forever(self, app: str) -> None:
        """Lease for the replicas that run, and pause models that cannot start: Serve would keep
        requests for them for ever."""
        while True:
            await asyncio.sleep(WATCH_PERIOD_S)
            try:
                deployments = await deployments_of(app)
                self._starts.look(deployments, await cluster_room())
            except Exception as error:  # noqa: BLE001 - the next round asks again
                logger.warning("asking Serve for its deployments failed: %s", translate(error))
                continue
            self._leases.pause(self._starts.given_up)
            self._running = {name: running_replicas(deployments, name) for name in self._specs}
            self._leases.resize(self._capacity())
            without = {name for name, count in self._running.items() if not count}
            self._leases.hand_back_late(without, time.time())

    def _capacity(self) -> dict[VariantName, int]:
        return {name: capacity(spec, self._running[name]) for name, spec in self._specs.items()}


def _webhook_sender(settings: WebhookSettings, authorities: str | None) -> WebhookSender | None:
    if not settings.signing_secrets:
        return None
    return WebhookSender(
        WebhookSecrets(settings.signing_secrets),
        allow_private=settings.webhook_allow_private,
        authorities=authorities,
    )


def _webhook_view(
    public_url: str | None, storage: StorageSettings, jobs: JobsClient
) -> Callable[[Job], Awaitable[JobView]]:
    views = JobViews(ObjectStores(storage), Links(jobs.secret, storage.presigned_url_expires))
    return lambda job: views.one(JobSnapshot(job, None), public_url or "")
