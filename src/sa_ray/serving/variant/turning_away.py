"""Turn away a request that would wait long for another sender's work, and say until when."""

import time

from ray import serve

from sa_ray.contracts import ResolvedRequest
from sa_ray.scheduling.replica_load import Workload
from sa_ray.serving.messages import BusyReplica

LONG_WAIT_S = 0.5
"""Shortest wait for which a request is turned away, seconds: reports to routers are as old."""

FULL_BATCHES = 2
"""As many of the request's own kind are no long wait: a busy replica has one that waits."""


def turned_away(
    request: ResolvedRequest, workload: Workload, waiting: list[ResolvedRequest]
) -> BusyReplica | None:
    """Return that this replica is busy, if ``request`` would wait for long, and may be sent on.

    Its router has not heard of the work yet, or has found nothing better.
    """
    if request.busy is None or request.busy:
        return None
    left, estimator = workload.seconds_left(waiting), workload.estimator
    if left < max(LONG_WAIT_S, FULL_BATCHES * estimator.max_rows * estimator.share(request)):
        return None
    replica = serve.get_replica_context().replica_id.unique_id
    return BusyReplica(replica, time.time() + left)
