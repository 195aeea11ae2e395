"""When a request is turned away, as it would wait long for another sender's work."""

import time
from collections.abc import Sequence
from typing import Final

from sa_ray.contracts import ResolvedRequest
from sa_ray.scheduling.replica_load import Workload

LONG_WAIT_S: Final = 0.5
"""Shortest wait for which a request is turned away, seconds: reports to routers are as old."""

FULL_BATCHES: Final = 2
"""As many of clips like its own are no long wait: a replica has slots for one that runs and one
that waits."""


def busy_until(
    request: ResolvedRequest, workload: Workload, waiting: Sequence[ResolvedRequest]
) -> float | None:
    """Return the Unix time until which ``request`` would wait, if it is to be turned away; or None.

    Its router has not heard of the work yet, or has found nothing better. ``waiting``: requests
    that no batch has taken yet.
    """
    if request.busy is None or request.busy:
        return None
    left = workload.seconds_left(waiting)
    if left < max(LONG_WAIT_S, FULL_BATCHES * workload.estimator.full_batch(request)):
        return None
    return time.time() + left
