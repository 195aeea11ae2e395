"""Status of the application's deployments, as Serve gives it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.serve._private.common import ReplicaState
from ray.serve.context import _get_global_client

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import VariantName
from sa_ray.serving.cluster_room import UNKNOWN, ClusterRoom

FAILED_STATUSES = ("UNHEALTHY", "DEPLOY_FAILED")
SERVING_STATES = (ReplicaState.RUNNING, ReplicaState.PENDING_MIGRATION)
"""States of replicas that take requests: the second until another has replaced it."""

PLACE_PATIENCE_S = 30.0
"""Seconds without a node that could hold a replica until a model counts as unavailable: nodes of a
cluster that starts, or of one that lost some, come one after another."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Serve's status of one deployment.

    ``required_resources``: what a replica asks of its node, by Ray's names. ``replicas``: names of
    the actors of those that take requests.
    """

    status: str
    status_trigger: str
    message: str
    replica_states: Mapping[str, int]
    required_resources: Mapping[str, float]
    replicas: tuple[str, ...] = ()


async def deployments_of(app: str) -> Mapping[str, Deployment]:
    """Return Serve's status of the deployments of ``app``, by name.

    ``serve.status`` returns the same, but first makes models of every setting of every deployment:
    50 ms of the interpreter each time.
    """
    client: Any = _get_global_client()
    details = await asyncio.to_thread(client.get_serve_details)
    return {
        name: Deployment(
            status=deployment["status"],
            status_trigger=deployment["status_trigger"],
            replica_states=Counter(replica["state"] for replica in deployment["replicas"]),
            message=deployment["message"],
            required_resources=deployment["required_resources"],
            replicas=tuple(
                replica["actor_name"]
                for replica in deployment["replicas"]
                if replica["state"] in SERVING_STATES
            ),
        )
        for name, deployment in details["applications"][app]["deployments"].items()
    }


def running_replicas(deployments: Mapping[str, Deployment], name: str) -> int:
    """Return the number of replicas of ``name`` that take requests."""
    if name not in deployments:
        return 0
    states = deployments[name].replica_states
    return sum(states.get(state, 0) for state in SERVING_STATES)


def has_failed(deployment: Deployment) -> bool:
    """Return whether replicas fail to start.

    A deployment that lost a replica is UNHEALTHY too, until the next one is up. Failed health
    checks made it so, so it does not count here.
    """
    lost_one = deployment.status_trigger == "HEALTH_CHECK_FAILED"
    return deployment.status in FAILED_STATUSES and not lost_one


class Starts:
    """Tracks whether replicas can be started, over several looks at the deployments.

    ``clock`` gives seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.given_up: frozenset[VariantName] = frozenset()
        """Variants that get no replica: it failed to start so often that Serve has stopped trying,
        or no node can hold it."""
        self.without_node: frozenset[VariantName] = frozenset()
        """Those of them whose replicas no node can hold."""
        self._clock = clock
        self._without_node_since: dict[VariantName, float] = {}
        self._without_replicas: frozenset[VariantName] = frozenset()

    def look(self, deployments: Mapping[str, Deployment], room: ClusterRoom) -> None:
        seen = frozenset(
            name
            for name in VARIANTS
            if name in deployments
            and has_failed(deployments[name])
            and not any(deployments[name].replica_states.values())
        )
        # Only if seen twice in a row: between two attempts to start, there is no replica either.
        failing, self._without_replicas = seen & self._without_replicas, seen
        self.without_node = self._find_without_node(deployments, room)
        self.given_up = failing | self.without_node

    def _find_without_node(
        self, deployments: Mapping[str, Deployment], room: ClusterRoom
    ) -> frozenset[VariantName]:
        if room is UNKNOWN:  # what was known still holds
            return frozenset(n for n in self.without_node if not running_replicas(deployments, n))
        now, since = self._clock(), self._without_node_since
        self._without_node_since = {
            name: since.get(name, now)
            for name in VARIANTS
            if name in deployments
            and not running_replicas(deployments, name)
            and not room.fits(deployments[name].required_resources)
        }
        return frozenset(
            name
            for name, began in self._without_node_since.items()
            if now - began >= PLACE_PATIENCE_S
        )
