"""Typed clients of named actors, which wait out the actors' restarts."""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, Self, cast

from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from sa_ray.access import CountsApi
from sa_ray.errors import UnavailableError
from sa_ray.jobs import JobApi
from sa_ray.serving.actors.provision import ActorSpec, job_actor_spec, uploader_spec
from sa_ray.serving.actors.uploader import UploaderApi
from sa_ray.serving.ray_errors import translate
from sa_ray.settings import JobSettings, StorageSettings

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""Time for an actor to restart during a call. A lost node takes about 17 s to be noticed."""

CALL_TIMEOUT_S = 30.0
"""Timeout of calls that do not wait for anything; the others are made ``within`` their own."""

RETRY_PERIOD_S = 0.25


class JobsClient(JobApi, Protocol):
    """The job actor, called from another process."""

    def within(self, timeout_s: float | None) -> Self:
        """The same client with another timeout for each call; None: none."""
        ...


class UploaderClient(UploaderApi, Protocol):
    """The uploader actor, called from another process."""

    def within(self, timeout_s: float | None) -> Self:
        """The same client with another timeout for each call; None: none."""
        ...


class RestartingActor:
    """Calls methods of an actor, again if the actor was lost; raises errors of our own tree.

    Only for methods that may run twice: a call whose answer was lost is made again. ``find``
    returns the actor's handle, and may make the actor; it runs in a thread.
    """

    def __init__(
        self,
        name: str,
        find: Callable[[], ActorHandle[Any]],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._find = find
        self._clock = clock
        self._sleep = sleep
        self._actor: ActorHandle[Any] | None = None
        self._finding = asyncio.Lock()

    async def call(self, method: str, timeout_s: float | None, /, *args: Any, **kwargs: Any) -> Any:
        """Return what ``method`` returns; raise what it raises.

        Raises ``UnavailableError`` if a call takes longer than ``timeout_s``, or if the actor,
        once lost, does not come back within ``PATIENCE_S``.
        """
        deadline: float | None = None
        while True:
            try:
                actor = await self._found()
                async with asyncio.timeout(timeout_s):
                    return await getattr(actor, method).remote(*args, **kwargs)
            except RayTaskError as error:
                raise translate(error) from error
            except RayActorError as error:
                logger.warning("actor %s did not answer %s: %s", self._name, method, error)
                if isinstance(error, ActorDiedError):
                    self._actor = None
                deadline = deadline or self._clock() + PATIENCE_S
                if self._clock() > deadline:
                    raise self._unavailable("is restarting") from error
            except TimeoutError as error:
                raise self._unavailable("does not answer") from error
            except RayError as error:
                raise translate(error) from error
            await self._sleep(RETRY_PERIOD_S)

    async def _found(self) -> ActorHandle[Any]:
        """Look the actor up by name; one caller looks for all."""
        async with self._finding:
            if self._actor is None:
                self._actor = await asyncio.to_thread(self._find)
            return self._actor

    def _unavailable(self, what: str) -> UnavailableError:
        return UnavailableError(f"The {self._name} actor {what}.", retry_after_s=5)


class ActorProxy:
    """Has the async methods of the protocol ``api``, and forwards each call to an actor."""

    def __init__(
        self, actor: RestartingActor, api: type, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> None:
        self._actor = actor
        self._api = api
        self._timeout_s = timeout_s

    def within(self, timeout_s: float | None) -> "ActorProxy":
        return ActorProxy(self._actor, self._api, timeout_s)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        # Copying and pickling ask for underscored names before there is an `_api`.
        if name.startswith("_"):
            raise AttributeError(name)
        if not inspect.iscoroutinefunction(getattr(self._api, name, None)):
            raise AttributeError(f"{self._api.__name__} has no {name}")
        return partial(self._actor.call, name, self._timeout_s)


def jobs_client(settings: JobSettings) -> JobsClient:
    """Return a client of the job actor, which it makes if there is none."""
    return cast(JobsClient, ActorProxy(_restarting(job_actor_spec(settings)), JobApi))


def counts_client(settings: JobSettings) -> CountsApi:
    """Return a client of the job actor that counts the requests of keys."""
    return cast(CountsApi, ActorProxy(_restarting(job_actor_spec(settings)), CountsApi))


def uploader_client(settings: StorageSettings) -> UploaderClient:
    """Return a client of the uploader, which it makes if there is none."""
    return cast(UploaderClient, ActorProxy(_restarting(uploader_spec(settings)), UploaderApi))


def _restarting(spec: ActorSpec) -> RestartingActor:
    return RestartingActor(spec.name, spec.create)
