"""Request router of a variant: pick the replica that will have finished a request first."""

import asyncio
import random
import statistics
import time
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pydantic import ValidationError
from ray.serve.request_router import (
    FIFOMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from sa_ray.contracts import ResolvedRequest
from sa_ray.scheduling.costs import Calibration, Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.forecast import Forecast
from sa_ray.scheduling.reports import BUSY_UNTIL, CALIBRATION, SCALE, loras_reported

REPORT_PERIOD_S: Final = 0.5
"""Seconds between two routing reports that Serve asks of a replica."""

REPORT_AGE_S: Final = 2 * REPORT_PERIOD_S
"""Greatest age of a report, seconds: Serve passes it on when it next looks after the replicas."""

MAX_CANDIDATES: Final = 16
"""Replicas compared for one request, drawn at random: nearly as good as comparing all of many."""

ASK_AGAIN_S: Final = 0.1
"""Longest wait for one of the handle's own requests to end before full replicas are asked again:
what other handles sent may have."""

LEFT_S: Final = 0.01
"""Seconds for which a slot that comes free is left to other handles that have requests there: who
had all slots would else have them again before the others ask."""

BACKOFF_S: Final = 0.1
"""Serve's longest pause between two questions to full replicas."""

MAX_RANKS: Final = 3
"""Ranks of candidates offered to Serve before it asks again; the first holds up to two replicas."""


class EarliestCompletionRouter(FIFOMixin, RequestRouter):
    """A Serve request router; each handle of a variant has one.

    It knows exactly what its own handle has sent to each replica. Of other handles' requests it
    knows the number at the replica's last answer and, if they take seconds, the time when they will
    be done. So a request avoids a replica with a long clip ahead of it, and prefers a forming batch
    that has room.

    While all replicas are full, a slot that comes free goes to the handle's request that has waited
    longest, even if that replica was chosen for another request.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """Take the ``Estimator``'s ``cost``, ``max_rows`` and ``max_seconds`` from ``kwargs``."""
        cost = Cost.model_validate(kwargs["cost"])
        estimator = Estimator(cost, kwargs["max_rows"], kwargs["max_seconds"])
        self._forecast = Forecast(estimator, time.monotonic)
        self._turn = asyncio.Lock()
        self._ended = asyncio.Event()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Return ranks of candidates, the earliest to complete first.

        Serve takes the first rank in which a replica has a slot, and of that rank the replica with
        fewer requests. It asks replicas whose number it does not know, or knows to be full.
        """
        if pending_request is not None:
            # Serve would otherwise ask again without a pause while no replica has a slot.
            pending_request.routing_context.should_backoff = True
            self._forecast.withdraw(_id(pending_request))
        async with self._turn:
            # What was chosen last is sent, and counts, only once its caller has run: without this,
            # one slot that comes free is given to all who wait, and the replica refuses them.
            await asyncio.sleep(0)
            self._forecast.forget_lost()
            await self._slot()
            return self._ranked(self._drawn() or candidate_replicas, pending_request)

    async def _slot(self) -> None:
        """Wait for a request of this handle to end, if all replicas are full, or for a new replica.

        A handle with less than half of the requests does not wait. It does not see when those of
        other handles end, and gets its share of the slots by asking often.
        """
        ids = list(self.curr_replicas)
        held = sum(map(self._forecast.held, ids))
        ongoing = sum(self.replica_queue_len_cache.get(one) or 0 for one in ids)
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_AGAIN_S):
                while ids and held * 2 >= ongoing and not self.select_available_replicas():
                    self._ended.clear()
                    await self._ended.wait()
                    if held < ongoing:
                        await asyncio.sleep(LEFT_S)

    def _drawn(self) -> list[RunningReplica]:
        """Return replicas to compare: of those that may have a slot, if there are any."""
        replicas = self.select_available_replicas() or list(self.curr_replicas.values())
        return random.sample(replicas, min(MAX_CANDIDATES, len(replicas)))

    def _ranked(
        self, drawn: list[RunningReplica], pending_request: PendingRequest | None
    ) -> list[list[RunningReplica]]:
        free = self.select_available_replicas(drawn)
        request = _clip(pending_request)
        if pending_request is None or request is None or not free:
            # As Serve's own router does: ask two whether they have room.
            return [drawn[:2]]
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
        # Not through ``on_request_completed``, which may have been called already after a quick
        # answer. This callback then comes at once; it always comes from another thread.
        returned = partial(self._forecast.returned, replica_id, _id(pending_request))
        loop = asyncio.get_running_loop()
        result.add_done_callback(lambda _: loop.call_soon_threadsafe(returned))

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        """Note the number of requests that a replica had, and those on the way to it."""
        known = max(num_ongoing_requests, self._forecast.held(replica_id))
        super().on_new_queue_len_info(replica_id, known)

    def decrement_queue_len_cache(self, replica_id: ReplicaID) -> None:
        """Note that a request that this handle sent has ended."""
        super().decrement_queue_len_cache(replica_id)
        self._ended.set()

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        self._forecast.refused(replica_id, internal_request_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        self._forecast.keep(replica.replica_id for replica in replicas)
        scales = [one.routing_stats[SCALE] for one in replicas if SCALE in one.routing_stats]
        if scales:
            self._forecast.scale_to(statistics.fmean(scales))
        told = [one.routing_stats.get(CALIBRATION) for one in replicas if one.routing_stats]
        if told:
            # Replicas of a variant are alike, and one estimate serves them all.
            self._forecast.calibrate(_calibration(told[0]))
        super().update_replicas(replicas)
        self._ended.set()  # one may have come that has slots

    def _seconds(self, replica: RunningReplica, request: ResolvedRequest) -> float:
        held = self._forecast.held(replica.replica_id)
        known = self.replica_queue_len_cache.get(replica.replica_id)
        others = max(0, known - held) if known is not None else 0
        busy, loras = 0.0, None
        # If the replica just told us that all its requests are ours, the forecast knows better.
        if others or self._forecast.silent(replica.replica_id) > REPORT_AGE_S:
            busy = max(0.0, replica.routing_stats.get(BUSY_UNTIL, 0.0) - time.time())
            loras = loras_reported(replica.routing_stats)
        if until := (request.busy or {}).get(replica.replica_id.unique_id):
            busy = max(busy, until - time.time())
        return self._forecast.seconds(
            replica.replica_id, request, others=others, busy=busy, loras=loras
        )


def _id(pending: PendingRequest) -> str:
    request_id: str = pending.metadata.internal_request_id
    return request_id


def _clip(pending: PendingRequest | None) -> ResolvedRequest | None:
    argument = pending.args[0] if pending is not None and pending.args else None
    return argument if isinstance(argument, ResolvedRequest) else None


def _calibration(told: Any) -> Calibration | None:
    try:
        return told and Calibration.model_validate(told)
    except ValidationError:  # of a later release, whose replicas come one by one
        return None
