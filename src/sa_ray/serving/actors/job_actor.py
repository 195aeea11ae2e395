"""The detached job actor: a Ray shell over ``JobCoordinator``."""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from sa_ray.access import CountsApi, RequestCounts
from sa_ray.errors import ConfigurationError, JobStoreError
from sa_ray.jobs import JobApi, JobCoordinator, open_job_store
from sa_ray.jobs.sqlite_file import Claim
from sa_ray.serving import garbage
from sa_ray.serving.actors.job_metrics import JobMetrics, watch_queues
from sa_ray.serving.ray_errors import translate
from sa_ray.settings import JobSettings
from sa_ray.telemetry import configure_logging

logger = logging.getLogger(__name__)

OPEN_RETRY_S = 2.0
OPEN_PATIENCE_S = 10.0
"""Time for the store to be opened before the first calls are told that it is not open yet."""

C = TypeVar("C", bound=type)


def forwards(api: type, attribute: str) -> Callable[[C], C]:
    """Decorate a class: give it each async method of ``api``, which calls that of ``attribute``."""

    def decorate(cls: C) -> C:
        for name, method in inspect.getmembers(api, inspect.iscoroutinefunction):
            setattr(cls, name, _forwarding(name, method, attribute))
        return cls

    return decorate


def _forwarding(name: str, method: Callable[..., Any], attribute: str) -> Callable[..., Any]:
    @wraps(method)
    async def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(getattr(self, attribute), name)(*args, **kwargs)

    return forward


@forwards(CountsApi, "_counts")
@forwards(JobApi, "_jobs")
class JobActor:
    """May be killed at any time: what it has answered for is in the store.

    ``fingerprint`` names the code and the settings that it was made with.
    """

    async def __init__(  # type: ignore[misc] # Ray awaits it
        self, settings: JobSettings, fingerprint: str
    ) -> None:
        configure_logging()
        self._fingerprint = fingerprint
        self._settings = settings
        self._coordinator: JobCoordinator | None = None
        self._counts = RequestCounts()
        self._claim: Claim | None = None
        self._problem = "The job store is being opened."
        self._tried = asyncio.Event()
        self._work = asyncio.create_task(self._run())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), OPEN_PATIENCE_S)

    async def _run(self) -> None:
        settings = self._settings
        while self._coordinator is None:
            try:
                # Held as long as this process lives.
                self._claim = self._claim or await asyncio.to_thread(Claim, settings.jobs_url)
                password = self._password if settings.jobs_password else None
                store = await asyncio.to_thread(open_job_store, settings.jobs_url, password)
            except Exception as error:  # noqa: BLE001 - told to all who ask, and tried again
                # An actor whose constructor fails is gone for good: this one waits instead.
                self._problem = translate(error).message
                logger.error("the job store cannot be opened: %s", self._problem)
                self._tried.set()
                await asyncio.sleep(OPEN_RETRY_S)
            else:
                self._coordinator = JobCoordinator(
                    store,
                    clock=time.time,
                    max_queued=settings.max_queued_jobs,
                    job_ttl=settings.job_ttl,
                    max_wait=settings.job_max_wait,
                    observer=JobMetrics(),
                )
        garbage.settle()
        self._tried.set()
        self._watch = asyncio.create_task(watch_queues(self._coordinator))
        await self._coordinator.run_reaper()

    def _password(self) -> str | None:
        try:
            password = self._settings.opened().jobs_password
        except ConfigurationError as error:
            raise JobStoreError(error.message, param=error.param, transient=False) from None
        return password.get_secret_value() if password else None

    @property
    def _jobs(self) -> JobCoordinator:
        if self._coordinator is None:
            raise JobStoreError(self._problem, retry_after_s=5)
        return self._coordinator

    async def fingerprint(self) -> str:
        return self._fingerprint
