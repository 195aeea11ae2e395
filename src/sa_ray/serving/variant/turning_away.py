"""Turn away a request that would wait long for another sender's work, and say until when."""

import time
from collections.abc import Sequence
from typing import Final

from sa_ray.contracts import ResolvedRequest
from sa_ray.scheduling.replica_load import Workload
from sa_ray.serving.messages import BusyReplica

LONG_WAIT_S: Final = 0.5
"""Shortest wait for which a request is turned away, seconds: reports to routers are as old."""

FULL_BATCHES: Final = 2
"""As many of clips like its own are no long wait: a replica has slots for one that runs and one
that waits."""


def turned_away(
    request: ResolvedRequest, workload: Workload, waiting: Sequence[ResolvedRequest], replica: str
) -> BusyReplica | None:
    """Return that ``replica`` is busy, if ``request`` would wait for long, and may be turned away.

    Its router has not heard of the work yet, or has found nothing better. ``waiting``: requests
    that no batch has taken yet.
    """
    if request.busy is None or request.busy:
        return None
    left = workload.seconds_left(waiting)
    if left < max(LONG_WAIT_S, FULL_BATCHES * workload.estimator.full_batch(request)):
        return None
    return BusyReplica(replica, time.time() + left)
