"""The named actors: how they are made, found again, replaced, and called through a restart."""

import asyncio
import hashlib
import logging
import time
from functools import cache
from pathlib import Path
from typing import Any

import ray
from pydantic import SecretStr
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayError, RayTaskError

from sa_ray.config import Settings
from sa_ray.errors import UnavailableError
from sa_ray.serving.faults import translate
from sa_ray.serving.job_actor import JobActor
from sa_ray.serving.uploader import Uploader

logger = logging.getLogger(__name__)

NAMESPACE = "sa_ray"
PROTOCOL = 1
"""Grows when a method of an actor changes its meaning; part of the actors' names."""

JOBS = f"jobs-v{PROTOCOL}"
UPLOADER = f"uploader-v{PROTOCOL}"

ACTOR_CPUS = 0.05
"""A small share, so that the actors land on nodes that have CPUs to give: never on a bare head."""

MAX_CONCURRENT_CALLS = 10_000
"""Calls that mostly wait (long polls, leases); each costs a coroutine, not a thread."""

PATIENCE_S = 30.0
"""How long a call waits for a restarting actor. A lost node takes about 17 s to be noticed."""

CALL_TIMEOUT_S = 30.0
"""For calls that do not wait for anything; the others give their own."""

RETRY_PERIOD_S = 0.25
PROVISION_TIMEOUT_S = 60.0


@cache
def _code_digest() -> str:
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def fingerprint(settings: Settings) -> str:
    """Names the code and the settings that an actor runs with."""
    values = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings
    }
    digest = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()
    return f"{_code_digest()}-{digest[:16]}"


def _create(name: str, settings: Settings) -> ActorHandle[Any]:
    options: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_concurrency": MAX_CONCURRENT_CALLS,
        "num_cpus": ACTOR_CPUS,
    }
    mark = fingerprint(settings)
    actor: Any
    if name == JOBS:
        actor = ray.remote(JobActor).options(**options)
        return actor.remote(  # type: ignore[no-any-return]
            settings.jobs_url, settings.max_queued_jobs, settings.job_ttl, mark
        )
    actor = ray.remote(Uploader).options(**options)
    return actor.remote(settings, mark)  # type: ignore[no-any-return]


def provision(settings: Settings) -> None:
    """Make the actors for ``settings``; replace those that run other code or other settings.

    Called once per deploy, before any replica of it starts. Replacing is safe at any moment: the
    jobs' state is durable, and callers wait for the new actor. Raises ``UnavailableError`` if an
    actor cannot be had.
    """
    names = (JOBS, UPLOADER)
    for name in names:  # so that they start side by side
        _create(name, settings)
    for name in names:
        _provision(name, settings)


def _provision(name: str, settings: Settings) -> None:
    # More than once, since a replica of the deploy before, missing the actor that was just
    # killed, may make it again with its own settings before this does.
    deadline = time.monotonic() + PROVISION_TIMEOUT_S
    while time.monotonic() < deadline:
        actor: Any = _create(name, settings)
        try:
            current = ray.get(actor.fingerprint.remote(), timeout=PROVISION_TIMEOUT_S)
        except RayActorError as error:
            logger.warning("actor %s died as it started: %s", name, error)
            time.sleep(1)
            continue
        except GetTimeoutError:
            break
        if current == fingerprint(settings):
            return
        logger.info("replacing actor %s, made as %s", name, current)
        ray.kill(actor, no_restart=True)
    raise UnavailableError(
        f"The {name} actor did not start. The cluster may lack the {ACTOR_CPUS} CPUs it asks for."
    )


class ActorClient:
    """Calls a named actor, waiting out its restarts; raises errors of our own tree.

    Only for methods that may run twice: a call whose answer was lost is made again.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self._actor: ActorHandle[Any] | None = None
        self._finding = asyncio.Lock()

    async def call(self, method: str, *args: Any, timeout_s: float | None = CALL_TIMEOUT_S) -> Any:
        """Return what ``method`` returns; raise what it raises.

        Raises ``UnavailableError`` if a call takes longer than ``timeout_s``, or if the actor,
        once lost, does not come back within ``PATIENCE_S``.
        """
        deadline: float | None = None
        while True:
            try:
                actor = await self._find()
                async with asyncio.timeout(timeout_s):
                    return await getattr(actor, method).remote(*args)
            except RayTaskError as error:
                raise translate(error) from error
            except RayActorError as error:
                logger.warning("actor %s did not answer %s: %s", self._name, method, error)
                if isinstance(error, ActorDiedError):
                    self._actor = None
                deadline = deadline or time.monotonic() + PATIENCE_S
                if time.monotonic() > deadline:
                    raise self._unavailable("is restarting") from error
            except TimeoutError as error:
                raise self._unavailable("does not answer") from error
            except RayError as error:
                raise translate(error) from error
            await asyncio.sleep(RETRY_PERIOD_S)

    async def _find(self) -> ActorHandle[Any]:
        """The actor: found by name, made if it does not exist. One caller looks for all."""
        async with self._finding:
            if self._actor is None:
                self._actor = await asyncio.to_thread(_create, self._name, self._settings)
            return self._actor

    def _unavailable(self, what: str) -> UnavailableError:
        return UnavailableError(f"The {self._name} actor {what}.", retry_after_s=5)


def jobs_client(settings: Settings) -> ActorClient:
    return ActorClient(JOBS, settings)


def uploader_client(settings: Settings) -> ActorClient:
    return ActorClient(UPLOADER, settings)
