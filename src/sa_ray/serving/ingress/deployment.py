"""The ingress deployment: the only thing that speaks HTTP. It holds no state."""

import asyncio
import contextlib
import logging
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from sa_ray.access import Keyring, RequestAllowances
from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import EngineName, VariantName
from sa_ray.engines import INSTALL_HINT
from sa_ray.errors import ObjectStoreError
from sa_ray.jobs import UsageMeter
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.cpu_share import CpuShare
from sa_ray.serving import garbage
from sa_ray.serving.actors import counts_client, jobs_client, uploader_client
from sa_ray.serving.deployment_options import estimator
from sa_ray.serving.ingress.adapters import ClientAdapters
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.ingress.clients import ClientShares
from sa_ray.serving.ingress.grouped_calls import GroupedCalls
from sa_ray.serving.ingress.health import HealthMonitor
from sa_ray.serving.ingress.job_feed import JobFeed
from sa_ray.serving.ingress.services import Services
from sa_ray.serving.ingress.sync_generation import SyncGeneration
from sa_ray.serving.ingress.uploads import ClientUploads
from sa_ray.serving.job_view import JobViews
from sa_ray.serving.links import Links
from sa_ray.settings import (
    AccessSettings,
    EdgeSettings,
    JobSettings,
    LimitSettings,
    ModelSettings,
    StorageSettings,
    WebhookSettings,
    duration_limit,
)
from sa_ray.storage import ObjectStores, open_adapters
from sa_ray.telemetry import close_tracing, configure_logging, configure_tracing

logger = logging.getLogger(__name__)


@serve.ingress()
class Ingress:
    """Serves HTTP; any replica serves any request. The routes work with ``services``.

    The dispatcher is bound only so that Serve deploys it with the application.
    """

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        engine: EngineName,
        models: ModelSettings,
        limits: LimitSettings,
        edge: EdgeSettings,
        job_settings: JobSettings,
        storage: StorageSettings,
        variants: dict[VariantName, DeploymentHandle[Any]],
        _dispatcher: DeploymentHandle[Any],
        *,
        webhooks: WebhookSettings,
        access: AccessSettings,
        costs: dict[VariantName, Cost],
    ) -> None:
        configure_logging()
        configure_tracing()
        self._edge = edge
        self._access = access
        self._keyring = Keyring(access.api_keys_file)
        self._watch = asyncio.create_task(self._keyring.watch())
        jobs, uploader = jobs_client(job_settings), uploader_client(storage)
        stores = ObjectStores(storage)
        # The first URL loads the S3 client and finds credentials, which takes long: do it now.
        with contextlib.suppress(ObjectStoreError):
            await asyncio.to_thread(stores.current.url, "first")
        health = HealthMonitor(models, limits, engine, stores.current.backend, jobs, uploader)
        self._allowances = RequestAllowances(
            counts_client(job_settings),
            lambda: health.ingress_replicas or limits.most_ingress_replicas,
        )
        read_job = GroupedCalls(jobs.get_all)
        links = Links(jobs.secret, storage.presigned_url_expires)
        signing = webhooks.opened().signing_secrets
        self._usage = UsageMeter(jobs.add_usage)
        self.services = Services(
            models=models,
            limits=limits,
            webhooks=WebhookSecrets(signing) if signing else None,
            engine=engine,
            estimators={name: estimator(models.spec(name), costs[name]) for name in VARIANTS},
            generation=SyncGeneration(variants, health, self._usage),
            jobs=jobs,
            submit_job=GroupedCalls(jobs.submit_all),
            submit_of_batch=GroupedCalls(jobs.submit_all, under_way=1),
            read_job=read_job,
            job_feed=JobFeed(jobs.changed, read_job, limits.max_waiting_requests),
            uploader=uploader,
            uploads=ClientUploads(uploader, jobs, limits.max_upload_mb, _longest(models, limits)),
            links=links,
            views=JobViews(stores, links),
            adapters=ClientAdapters(open_adapters(storage)),
            health=health,
            clients=ClientShares(limits.max_open_per_client),
            keyring=self._keyring,
        )
        _say_if_stand_in(engine)
        _say_whom_it_answers(access)
        garbage.settle()
        self._cpu_share = CpuShare()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the metric that ``CpuPolicy`` reads; Serve asks for it."""
        # A coroutine, or Serve would run it in a thread.
        return self._cpu_share.report()

    async def __del__(self) -> None:
        await self._usage.close()
        await close_tracing()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_http_app(
            self._edge,
            self.services.limits,
            self._keyring,
            self._allowances,
            allow_anonymous=self._access.allow_anonymous,
        )


def _longest(models: ModelSettings, limits: LimitSettings) -> float:
    return max(duration_limit(models, limits, name) for name in VARIANTS)


def _say_if_stand_in(engine: EngineName) -> None:
    if engine == "procedural":
        logger.warning(
            "The procedural engine is a stand-in, not Stable Audio 3. For the real model: %s.",
            INSTALL_HINT,
        )


def _say_whom_it_answers(access: AccessSettings) -> None:
    if access.allow_anonymous:
        logger.warning(
            "There are no keys, and STABLE_AUDIO_ALLOW_ANONYMOUS is true: whoever can reach this "
            "service may do everything."
        )
    elif access.api_keys_file is None:
        logger.info(
            "There are no keys: clients on this machine are answered, and no others, unless "
            "STABLE_AUDIO_API_KEYS_FILE or STABLE_AUDIO_ALLOW_ANONYMOUS is set."
        )
