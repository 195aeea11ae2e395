"""Which replica gets a request: the one that will have finished it first."""

import logging
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

logger = logging.getLogger(__name__)

MAX_CANDIDATES: Final = 16
"""Replicas compared for one request, drawn at random: nearly as good as all of many."""


class EarliestCompletionRouter(FIFOMixin, RequestRouter):
    """A Serve request router; each handle of a variant has one.

    It knows exactly what its own handle has sent to each replica, and of other handles' requests
    how many there were at the last answer of the replica. So a request avoids the replica that
    has a long clip before it, and prefers a batch that forms and has room for it.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """``kwargs``: the ``cost``, ``max_rows`` and ``max_seconds`` of an ``Estimator``."""
        cost = Cost.model_validate(kwargs["cost"])
        estimator = Estimator(cost, kwargs["max_rows"], kwargs["max_seconds"])
        self._forecast = Forecast(estimator, time.monotonic)
        self._tentative: dict[str, tuple[PendingRequest, ReplicaID]] = {}
        """Requests on the way to the replica that was chosen for them."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Candidates in order of preference, each by itself; Serve takes the first with a slot."""
        count = min(MAX_CANDIDATES, len(candidate_replicas))
        drawn = random.sample(candidate_replicas, count)
        request = _clip(pending_request)
        if pending_request is None or request is None:
            return [drawn]
        self._withdraw_cancelled()
        self._withdraw(pending_request)
        seconds = {
            replica.replica_id: self._forecast.seconds(
                replica.replica_id, request, self._others(replica.replica_id)
            )
            for replica in drawn
        }
        drawn.sort(key=lambda replica: seconds[replica.replica_id])
        # As if it were there already, so that those chosen for meanwhile do not all go there too.
        best = drawn[0].replica_id
        self._tentative[_id(pending_request)] = pending_request, best
        self._forecast.sent(best, _id(pending_request), request)
        return [[replica] for replica in drawn]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        request = _clip(pending_request)
        if request is not None:
            self._withdraw(pending_request)
            self._forecast.sent(replica_id, _id(pending_request), request)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        if internal_request_id not in self._tentative:
            self._forecast.returned(replica_id, internal_request_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        self._forecast.keep(replica.replica_id for replica in replicas)
        super().update_replicas(replicas)

    def _withdraw(self, pending: PendingRequest) -> None:
        _, replica_id = self._tentative.pop(_id(pending), (None, None))
        if replica_id is not None:
            self._forecast.withdrawn(replica_id, _id(pending))

    def _withdraw_cancelled(self) -> None:
        """Serve says nothing of a request that is cancelled before it has a replica."""
        for pending, _ in list(self._tentative.values()):
            if pending.future.cancelled():
                self._withdraw(pending)

    def _others(self, replica_id: ReplicaID) -> int:
        known = self.replica_queue_len_cache.get(replica_id) or 0
        return max(0, known - self._forecast.held(replica_id))


def _id(pending: PendingRequest) -> str:
    request_id: str = pending.metadata.internal_request_id
    return request_id


def _clip(pending: PendingRequest | None) -> ResolvedRequest | None:
    argument = pending.args[0] if pending is not None and pending.args else None
    return argument if isinstance(argument, ResolvedRequest) else None
