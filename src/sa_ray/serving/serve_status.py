"""Status of the application's deployments, as Serve gives it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray.serve._private.common import ReplicaState
from ray.serve.context import _get_global_client
from ray.serve.schema import DeploymentStatusOverview

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import VariantName

FAILED_STATUSES = ("UNHEALTHY", "DEPLOY_FAILED")


async def deployments_of(app: str) -> Mapping[str, DeploymentStatusOverview]:
    """Return Serve's status of the deployments of ``app``, by name.

    ``serve.status`` returns the same, but first makes models of every setting of every deployment:
    50 ms of the interpreter each time.
    """
    client: Any = _get_global_client()
    details = await asyncio.to_thread(client.get_serve_details)
    return {
        name: DeploymentStatusOverview(
            status=deployment["status"],
            status_trigger=deployment["status_trigger"],
            replica_states=Counter(replica["state"] for replica in deployment["replicas"]),
            message=deployment["message"],
        )
        for name, deployment in details["applications"][app]["deployments"].items()
    }


def running_replicas(deployments: Mapping[str, DeploymentStatusOverview], name: str) -> int:
    """Return the number of replicas of ``name`` that take requests."""
    if name not in deployments:
        return 0
    return deployments[name].replica_states.get(ReplicaState.RUNNING, 0)


def has_failed(deployment: DeploymentStatusOverview) -> bool:
    """Return whether replicas fail to start.

    A deployment that lost a replica is UNHEALTHY too, until the next one is up. Failed health
    checks made it so, so it does not count here.
    """
    lost_one = deployment.status_trigger == "HEALTH_CHECK_FAILED"
    return deployment.status in FAILED_STATUSES and not lost_one


class Starts:
    """Tracks whether replicas can be started, over several looks at the deployments."""

    def __init__(self) -> None:
        self.given_up: frozenset[VariantName] = frozenset()
        """Variants whose replicas failed to start so often that Serve has stopped trying."""
        self._without_replicas: frozenset[VariantName] = frozenset()

    def look(self, deployments: Mapping[str, DeploymentStatusOverview]) -> None:
        seen = frozenset(
            name
            for name in VARIANTS
            if name in deployments
            and has_failed(deployments[name])
            and not any(deployments[name].replica_states.values())
        )
        # Only if seen twice in a row: between two attempts to start, there is no replica either.
        self.given_up, self._without_replicas = seen & self._without_replicas, seen
