"""Which replica gets a request: the one that will have finished it first."""

import asyncio
import random
import statistics
import time
from functools import partial
from typing import Any, Final

from ray.serve.request_router import (
    FIFOMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from sa_ray.contracts import ResolvedRequest
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.forecast import Forecast
from sa_ray.scheduling.reports import BUSY_UNTIL, SCALE

REPORT_PERIOD_S: Final = 0.5
"""How often Serve asks for it."""

REPORT_AGE_S: Final = 2 * REPORT_PERIOD_S
"""How old a report may be: Serve passes it on when it next looks after the replicas."""

MAX_CANDIDATES: Final = 16
"""Replicas compared for one request, drawn at random: nearly as good as all of many."""

MAX_RANKS: Final = 3
"""Of them, the first of up to two, that are offered it before Serve draws anew."""


class EarliestCompletionRouter(FIFOMixin, RequestRouter):
    """A Serve request router; each handle of a variant has one.

    It knows exactly what its own handle has sent to each replica. Of other handles' requests it
    knows how many there were at the last answer of the replica, and, where they take seconds, when
    they will be done. So a request avoids the replica that has a long clip before it, and prefers a
    batch that forms and has room for it. While all replicas are full, a slot that comes free goes
    to that of a handle's requests that has waited longest, whichever it was chosen for.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """``kwargs``: the ``cost``, ``max_rows`` and ``max_seconds`` of an ``Estimator``."""
        cost = Cost.model_validate(kwargs["cost"])
        estimator = Estimator(cost, kwargs["max_rows"], kwargs["max_seconds"])
        self._forecast = Forecast(estimator, time.monotonic)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Ranks of candidates; of the first rank in which one has a slot, Serve takes the one with
        fewer requests. It asks those that it does not know, or knows to be full."""
        count = min(MAX_CANDIDATES, len(candidate_replicas))
        drawn = random.sample(candidate_replicas, count)
        if pending_request is not None:
            # Serve would otherwise ask again without a pause while no replica has a slot.
            pending_request.routing_context.should_backoff = True
        free = self.select_available_replicas(drawn)
        request = _clip(pending_request)
        if pending_request is None or request is None or not free:
            # As Serve's own router does: two are asked whether they have room.
            return [drawn[:2]]
        self._forecast.forget_lost()
        self._forecast.withdraw(_id(pending_request))
        seconds = {replica.replica_id: self._seconds(replica, request) for replica in free}
        free.sort(key=lambda replica: seconds[replica.replica_id])
        best = [one for one in free if seconds[one.replica_id] == seconds[free[0].replica_id]][:2]
        self._forecast.chosen(best[0].replica_id, _id(pending_request), request)
        return [best, *([other] for other in free[len(best) :])][:MAX_RANKS]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        request = _clip(pending_request)
        if request is None:
            return
        self._forecast.arrived(replica_id, _id(pending_request), request)
        # Not through ``on_request_completed``, which may have been called already if the answer was
        # quick. This is called at once then; from another thread, in any case.
        returned = partial(self._forecast.returned, replica_id, _id(pending_request))
        loop = asyncio.get_running_loop()
        result.add_done_callback(lambda _: loop.call_soon_threadsafe(returned))

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        self._forecast.refused(replica_id, internal_request_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        self._forecast.keep(replica.replica_id for replica in replicas)
        scales = [one.routing_stats[SCALE] for one in replicas if SCALE in one.routing_stats]
        if scales:
            self._forecast.scale_to(statistics.fmean(scales))
        super().update_replicas(replicas)

    def _seconds(self, replica: RunningReplica, request: ResolvedRequest) -> float:
        held = self._forecast.held(replica.replica_id)
        known = self.replica_queue_len_cache.get(replica.replica_id)
        others = max(0, known - held) if known is not None else 0
        busy = 0.0
        # Where it has just told us that all requests are ours, we know better than its report.
        if others or self._forecast.silent(replica.replica_id) > REPORT_AGE_S:
            busy = max(0.0, replica.routing_stats.get(BUSY_UNTIL, 0.0) - time.time())
        return self._forecast.seconds(replica.replica_id, request, others=others, busy=busy)


def _id(pending: PendingRequest) -> str:
    request_id: str = pending.metadata.internal_request_id
    return request_id


def _clip(pending: PendingRequest | None) -> ResolvedRequest | None:
    argument = pending.args[0] if pending is not None and pending.args else None
    return argument if isinstance(argument, ResolvedRequest) else None
