"""Health of the service for ``/health``: gathered in the background, so asking costs nothing."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from ray import serve

from sa_ray import __version__
from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import (
    ComponentHealth,
    EngineName,
    Health,
    JobStatus,
    StorageBackend,
    VariantHealth,
    VariantName,
)
from sa_ray.serving.actors import JobsClient, UploaderClient
from sa_ray.serving.cluster_room import cluster_room
from sa_ray.serving.metrics import STORE_UP
from sa_ray.serving.ray_errors import translate
from sa_ray.serving.serve_status import (
    FAILED_STATUSES,
    SERVING_STATES,
    Deployment,
    Starts,
    deployments_of,
    has_failed,
    running_replicas,
)
from sa_ray.serving.slowdowns import Slowdowns
from sa_ray.settings import LimitSettings, ModelSettings, duration_limit

logger = logging.getLogger(__name__)

REFRESH_PERIOD_S = 1.0
WRITE_CHECK_PERIOD_S = 15.0
ANSWER_TIMEOUT_S = 10.0
UNKNOWN = ComponentHealth(ok=False, message="not checked yet")
WITHOUT_NODE = VariantHealth(
    state="unavailable",
    replicas=0,
    message="No node of the cluster has the resources that a replica needs, and no autoscaler adds "
    "one.",
)


class HealthMonitor:
    """Asks Serve, the job actor and the uploader once a second; ``read`` answers from memory."""

    def __init__(
        self,
        models: ModelSettings,
        limits: LimitSettings,
        engine: EngineName,
        backend: StorageBackend,
        jobs: JobsClient,
        uploader: UploaderClient,
    ) -> None:
        self._models = models
        self._limits = limits
        self._backend = backend
        self._engine = engine
        self._jobs = jobs.within(ANSWER_TIMEOUT_S)
        self._uploader = uploader.within(ANSWER_TIMEOUT_S)
        replica = serve.get_replica_context()
        self._app, self._ingress = replica.app_name, replica.deployment
        self._variants = {name: VariantHealth(state="starting", replicas=0) for name in VARIANTS}
        self._starts = Starts()
        self._slowdowns = Slowdowns()
        self._storage = UNKNOWN
        self._job_store = UNKNOWN
        self._counts: dict[JobStatus, int] | None = None
        self._next_write_check = 0.0
        self._deployments: Mapping[str, Deployment] = {}
        self.ingress_replicas: int | None = None
        """Replicas of the ingress that take requests, as Serve has last said; None: not yet."""
        self._tasks = [
            asyncio.create_task(self._forever(refresh))
            for refresh in (self._ask_serve, self._ask_replicas, self._ask_uploader, self._ask_jobs)
        ]

    def variant(self, name: VariantName) -> VariantHealth:
        return self._variants[name]

    def given_up(self, name: VariantName) -> bool:
        """Return whether no replica can be had, so that waiting is useless."""
        return name in self._starts.given_up

    def read(self) -> Health:
        models, limits = self._models, self._limits
        loaded = [name for name, health in self._variants.items() if health.replicas > 0]
        return Health(
            status=self._status(),
            version=__version__,
            engine=self._engine,
            model=models.default_model,
            device=models.device,
            loaded=models.default_model in loaded,
            storage_backend=self._backend,
            available_models=list(VARIANTS),
            loaded_models=loaded,
            preload_models=list(models.preloaded),
            model_duration_limits_seconds={
                name: duration_limit(models, limits, name) for name in VARIANTS
            },
            max_duration_seconds=limits.max_duration,
            max_steps=limits.max_steps,
            variants=self._variants,
            storage=self._storage,
            jobs=self._job_store,
            queued_jobs=None if self._counts is None else self._counts.get("queued", 0),
            running_jobs=None if self._counts is None else self._counts.get("running", 0),
        )

    def _status(self) -> Literal["ok", "degraded", "starting"]:
        states = {health.state for health in self._variants.values()}
        unchecked = UNKNOWN in (self._storage, self._job_store)
        if unchecked or any(self._variants[n].state == "starting" for n in self._models.preloaded):
            return "starting"
        slow = any(health.slowdown for health in self._variants.values())
        if slow or "unavailable" in states or not (self._storage.ok and self._job_store.ok):
            return "degraded"
        return "ok"

    async def _forever(self, refresh: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await refresh()
            except Exception as error:  # noqa: BLE001 - a monitor outlives what it watches
                logger.warning("health check failed: %s", error)
            await asyncio.sleep(REFRESH_PERIOD_S)

    async def _ask_serve(self) -> None:
        deployments = await deployments_of(self._app)
        self._starts.look(deployments, await cluster_room())
        # While another deploy is being built, Serve lists none: what was known still holds.
        slowdowns = self._slowdowns.by_variant
        self._variants |= {
            name: variant_health(deployments[name], slowdowns.get(name))
            for name in VARIANTS
            if name in deployments
        }
        self._variants |= dict.fromkeys(self._starts.without_node, WITHOUT_NODE)
        self.ingress_replicas = (
            running_replicas(deployments, self._ingress) or self.ingress_replicas
        )
        self._deployments = deployments

    async def _ask_replicas(self) -> None:
        await self._slowdowns.look(self._deployments)

    async def _ask_uploader(self) -> None:
        try:
            self._storage = await self._uploader.health()
        except Exception as error:  # noqa: BLE001 - reported, whatever it is
            self._storage = ComponentHealth(ok=False, message=translate(error).message)
        STORE_UP.set(float(self._storage.ok), store="objects")

    async def _ask_jobs(self) -> None:
        try:
            if time.monotonic() >= self._next_write_check:
                await self._jobs.check()
                self._next_write_check = time.monotonic() + WRITE_CHECK_PERIOD_S
            counts = await self._jobs.counts()
            self._counts = total(counts)
            self._job_store = ComponentHealth(ok=True)
        except Exception as error:  # noqa: BLE001 - reported, whatever it is
            self._counts = None
            self._next_write_check = 0.0
            self._job_store = ComponentHealth(ok=False, message=translate(error).message)
        STORE_UP.set(float(self._job_store.ok), store="jobs")


def variant_health(deployment: Deployment, slowdown: str | None = None) -> VariantHealth:
    states = deployment.replica_states
    running = sum(states.get(state, 0) for state in SERVING_STATES)
    if running:
        return VariantHealth(state="ready", replicas=running, slowdown=slowdown)
    message = public(deployment.message)
    if has_failed(deployment):
        return VariantHealth(state="unavailable", replicas=0, message=message)
    starting = deployment.status in FAILED_STATUSES or any(
        states.get(state, 0) for state in STARTING_STATES
    )
    return VariantHealth(state="starting" if starting else "idle", replicas=0, message=message)


def public(message: str) -> str | None:
    """Return Serve's message as a client may see it: our own errors, never a traceback."""
    if own := OWN_ERROR.findall(message):
        return str(own[-1])
    if "Traceback" in message or "ray::" in message:
        return "A replica failed to start; the log of its deployment says why."
    return message or None


OWN_ERROR = re.compile(r"sa_ray\.errors\.\w+: (.+)")
STARTING_STATES = ("STARTING", "UPDATING", "RECOVERING")


def total(counts: Mapping[VariantName, Mapping[JobStatus, int]]) -> dict[JobStatus, int]:
    summed: dict[JobStatus, int] = {}
    for by_status in counts.values():
        for status, count in by_status.items():
            summed[status] = summed.get(status, 0) + count
    return summed
