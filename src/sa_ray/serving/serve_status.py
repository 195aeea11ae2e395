"""What Serve says of the application's deployments."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray.serve.context import _get_global_client
from ray.serve.schema import DeploymentStatusOverview

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import VariantName

FAILED_STATUSES = ("UNHEALTHY", "DEPLOY_FAILED")


async def deployments_of(app: str) -> Mapping[str, DeploymentStatusOverview]:
    """What Serve says of the deployments of ``app``, by name.

    ``serve.status`` says the same, but first makes models of every setting of every deployment:
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


def has_failed(deployment: DeploymentStatusOverview) -> bool:
    """Whether replicas fail to start. A deployment that lost one is UNHEALTHY, too, until the next
    one is up; that failed health checks made it so."""
    lost_one = deployment.status_trigger == "HEALTH_CHECK_FAILED"
    return deployment.status in FAILED_STATUSES and not lost_one


class Starts:
    """Follows whether replicas can be started, over several looks at the deployments."""

    def __init__(self) -> None:
        self.given_up: frozenset[VariantName] = frozenset()
        """The variants whose replicas failed to start so often that Serve has stopped trying."""
        self._without_replicas: frozenset[VariantName] = frozenset()

    def look(self, deployments: Mapping[str, DeploymentStatusOverview]) -> None:
        seen = frozenset(
            name
            for name in VARIANTS
            if name in deployments
            and has_failed(deployments[name])
            and not any(deployments[name].replica_states.values())
        )
        # Twice in a row: between two attempts to start one, there is no replica either.
        self.given_up, self._without_replicas = seen & self._without_replicas, seen
