"""Make the named actors, and replace those that run other code or other settings."""

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError

from sa_ray.errors import UnavailableError
from sa_ray.serving.actors.job_actor import JobActor
from sa_ray.serving.actors.uploader import Uploader
from sa_ray.settings import JobSettings, StorageSettings

logger = logging.getLogger(__name__)

NAMESPACE = "sa_ray"
PROTOCOL = 1
"""Grows when a method of an actor changes its meaning; part of the actors' names."""

ACTOR_CPUS = 0.05
"""A small share, so that the actors land on nodes that have CPUs to give: never on a bare head."""

MAX_CONCURRENT_CALLS = 10_000
"""Calls that mostly wait (long polls, leases); each costs a coroutine, not a thread."""

PROVISION_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """One named actor: its class takes its settings and a fingerprint of both."""

    name: str
    actor: type
    settings: JobSettings | StorageSettings

    @property
    def fingerprint(self) -> str:
        """Digest of the code and the settings that the actor runs with.

        Not of secrets: the actor finds changed ones by itself.
        """
        digest = hashlib.sha256(repr(sorted(self.settings)).encode()).hexdigest()
        return f"{_package_digest()}-{digest[:16]}"

    def create(self) -> ActorHandle[Any]:
        """Find the actor by name, or make it."""
        actor: Any = ray.remote(self.actor).options(
            name=self.name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=MAX_CONCURRENT_CALLS,
            num_cpus=ACTOR_CPUS,
        )
        return actor.remote(self.settings, self.fingerprint)  # type: ignore[no-any-return]


def job_actor_spec(settings: JobSettings) -> ActorSpec:
    return ActorSpec(f"jobs-v{PROTOCOL}", JobActor, settings.sealed())


def uploader_spec(settings: StorageSettings) -> ActorSpec:
    return ActorSpec(f"uploader-v{PROTOCOL}", Uploader, settings.sealed())


def provision(jobs: JobSettings, storage: StorageSettings) -> None:
    """Make the actors; replace those that run other code or other settings.

    Called once per deploy, before any replica of it starts. Replacing is safe at any moment: the
    jobs' state is durable, and callers wait for the new actor. Raises ``UnavailableError`` if an
    actor cannot be had.
    """
    specs = (job_actor_spec(jobs), uploader_spec(storage))
    for spec in specs:  # so that they start side by side
        spec.create()
    for spec in specs:
        _provision(spec)


def _provision(spec: ActorSpec) -> None:
    # More than once, since a replica of the deploy before, missing the actor that was just
    # killed, may make it again with its own settings before this does.
    deadline = time.monotonic() + PROVISION_TIMEOUT_S
    while time.monotonic() < deadline:
        actor: Any = spec.create()
        try:
            current = ray.get(actor.fingerprint.remote(), timeout=PROVISION_TIMEOUT_S)
        except RayActorError as error:
            logger.warning("actor %s died as it started: %s", spec.name, error)
            time.sleep(1)
            continue
        except GetTimeoutError:
            break
        if current == spec.fingerprint:
            return
        logger.info("replacing actor %s, made as %s", spec.name, current)
        ray.kill(actor, no_restart=True)
    raise UnavailableError(
        f"The {spec.name} actor did not start. The cluster may lack the {ACTOR_CPUS} CPUs it asks "
        "for."
    )


@cache
def _package_digest() -> str:
    return code_digest(files("sa_ray"))


def code_digest(package: Traversable) -> str:
    """Digest of every Python module under ``package``, by path and content."""
    digest = hashlib.sha256()
    for path, module in sorted(_modules(package, "")):
        digest.update(path.encode())
        digest.update(module.read_bytes())
    return digest.hexdigest()[:16]


def _modules(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _modules(entry, f"{path}/")
        elif entry.name.endswith(".py"):
            yield path, entry
