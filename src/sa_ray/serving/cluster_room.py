"""Whether the cluster could ever place a replica: what its nodes have, and whether it grows."""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray._private import worker
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.core.generated import autoscaler_pb2

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 5

NO_AUTOSCALER = re.compile(r"node_[0-9a-f]{28,}")
"""Type of a node, named after its id, in a cluster that Ray only watches and does not scale."""


@dataclass(frozen=True, slots=True)
class ClusterRoom:
    """``nodes``: all resources of each, used or not. ``grows``: an autoscaler may add others."""

    nodes: tuple[Mapping[str, float], ...]
    grows: bool

    def fits(self, required: Mapping[str, float]) -> bool:
        """Return whether some node has ``required``, or may yet be added."""
        return self.grows or any(
            all(node.get(name, 0.0) >= amount for name, amount in required.items())
            for node in self.nodes
        )


UNKNOWN = ClusterRoom((), grows=True)


async def cluster_room() -> ClusterRoom:
    """Ask Ray; takes about a millisecond. ``UNKNOWN`` while it does not answer."""
    try:
        return await asyncio.to_thread(_ask)
    except Exception as error:  # noqa: BLE001 - no answer must not make a model unavailable
        logger.warning("asking Ray for its nodes failed: %s", error)
        return UNKNOWN


def _ask() -> ClusterRoom:
    process: Any = worker.global_worker
    messages: Any = autoscaler_pb2
    client = process.gcs_client
    reply = messages.GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=ANSWER_TIMEOUT_S))
    status = client.internal_kv_get(DEBUG_AUTOSCALING_STATUS.encode(), None)
    return ClusterRoom(
        nodes=tuple(
            dict(node.total_resources)
            for node in reply.cluster_resource_state.node_states
            if node.status != messages.DEAD
        ),
        grows=reply.HasField("autoscaling_state") or scales(status),
    )


def scales(status: bytes | None) -> bool:
    """Return whether ``status``, which Ray's monitor wrote, is of an autoscaler.

    Each head has a monitor. Without a configuration of node types it names each node for its id.
    """
    if status is None:
        return False
    report = json.loads(status).get("autoscaler_report") or {}
    types = report.get("active_nodes") or {}
    return not types or any(not NO_AUTOSCALER.fullmatch(name) for name in types)
