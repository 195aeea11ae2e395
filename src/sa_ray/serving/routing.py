"""Which replica gets a request: the one that will have finished it first."""

import random
import time
from typing import Any, Final

from ray.serve.request_router import (
    FIFOMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from sa_ray.contracts import ResolvedRequest
from sa_ray.costs import Cost, Estimator
from sa_ray.serving.forecast import Forecast

BUSY_UNTIL: Final = "busy_until"
"""What a replica says for routing: the Unix time at which it will have done all that it has."""

REPORT_PERIOD_S: Final = 0.5
"""How often Serve asks for it."""

MIN_BUSY_S: Final = 1.0
"""Work that will be done sooner is not worth a report: it would be over when it arrives."""

MAX_CANDIDATES: Final = 16
"""Replicas compared for one request, drawn at random: nearly as good as all of many."""

MAX_TRIED: Final = 3
"""Of those, how many are asked to take it, before Serve pauses and draws anew."""


class EarliestCompletionRouter(FIFOMixin, RequestRouter):
    """A Serve request router; each handle of a variant has one.

    It knows exactly what its own handle has sent to each replica. Of other handles' requests it
    knows how many there were at the last answer of the replica, and, where they take seconds, when
    they will be done. So a request avoids the replica that has a long clip before it, and prefers a
    batch that forms and has room for it.
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
        # As Serve's own router does: if all are full, two of them are asked whether they still are.
        any_two = drawn[:2]
        request = _clip(pending_request)
        if pending_request is None or request is None:
            return [any_two]
        # Serve would otherwise ask again without a pause while no replica has a slot.
        pending_request.routing_context.should_backoff = True
        self._forecast.forget_lost()
        self._forecast.withdraw(_id(pending_request))
        free = self.select_available_replicas(drawn)
        if not free:
            return [any_two]
        seconds = {replica.replica_id: self._seconds(replica, request) for replica in free}
        free.sort(key=lambda replica: seconds[replica.replica_id])
        best = [one for one in free if seconds[one.replica_id] == seconds[free[0].replica_id]][:2]
        self._forecast.chosen(best[0].replica_id, _id(pending_request), request)
        return [best, *([other] for other in free[len(best) : MAX_TRIED]), any_two]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        request = _clip(pending_request)
        if request is not None:
            self._forecast.arrived(replica_id, _id(pending_request), request)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        self._forecast.returned(replica_id, internal_request_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        self._forecast.keep(replica.replica_id for replica in replicas)
        super().update_replicas(replicas)

    def _seconds(self, replica: RunningReplica, request: ResolvedRequest) -> float:
        known = self.replica_queue_len_cache.get(replica.replica_id) or 0
        others = max(0, known - self._forecast.held(replica.replica_id))
        busy = max(0.0, replica.routing_stats.get(BUSY_UNTIL, 0.0) - time.time())
        return self._forecast.seconds(replica.replica_id, request, others=others, busy=busy)


def busy_report(seconds: float) -> dict[str, float]:
    """What a replica says that has ``seconds`` of work. The time is rounded: Serve tells every
    handle of a change, and there is none while a clip goes on as was to be expected."""
    return {BUSY_UNTIL: float(round(time.time() + seconds))} if seconds > MIN_BUSY_S else {}


def _id(pending: PendingRequest) -> str:
    request_id: str = pending.metadata.internal_request_id
    return request_id


def _clip(pending: PendingRequest | None) -> ResolvedRequest | None:
    argument = pending.args[0] if pending is not None and pending.args else None
    return argument if isinstance(argument, ResolvedRequest) else None
