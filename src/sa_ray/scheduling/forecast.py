"""Forecast when each replica will have finished a request, from what its sender knows. Pure."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sa_ray.contracts import Lora, ResolvedRequest
from sa_ray.scheduling.costs import Calibration
from sa_ray.scheduling.estimator import Estimator, moved

PATIENCE_S: Final = 2.0
"""Seconds that a request may be on its way to a replica before it is forgotten. Serve does not say
that one was cancelled on its way, and has chosen again for one that was refused."""

_Sent = tuple[str, ResolvedRequest]
"""The id of a request, and the request."""

_OURS: Final = "the request in question"


@dataclass(slots=True)
class _Replica:
    waiting: dict[str, ResolvedRequest] = field(default_factory=dict)
    batch: dict[str, ResolvedRequest] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    """Requests of the batch that have not come back."""
    since: float = 0.0
    loras: tuple[Lora, ...] | None = None
    """Adapters of the last batch of ours; None before the first."""
    heard_at: float = -math.inf
    """Clock time at which it last took or answered a request of ours."""


class Forecast:
    """Follows the requests sent to each replica and their answers; replicas may be any keys.

    A replica is assumed to work as ``Batcher`` does: it starts at once when it is idle, and takes
    waiting requests in batches, oldest first. ``clock`` returns monotonic seconds.
    """

    def __init__(self, estimator: Estimator, clock: Callable[[], float]) -> None:
        self._assumed = self._estimator = estimator
        self._clock = clock
        self._replicas: dict[Hashable, _Replica] = {}
        self._place: dict[str, Hashable] = {}
        self._on_the_way: dict[str, float] = {}
        """Clock time of sending by request id, oldest first."""
        self._request_seconds = 0.0

    def chosen(self, replica: Hashable, request_id: str, request: ResolvedRequest) -> None:
        """Reserve ``replica`` for ``request`` now, so concurrent choices do not all pick it."""
        self.withdraw(request_id)
        self._add(replica, request_id, request)
        self._on_the_way[request_id] = self._clock()

    def arrived(self, replica: Hashable, request_id: str, request: ResolvedRequest) -> None:
        """Note that ``replica`` has accepted ``request``, even if another one was chosen."""
        if self._place.get(request_id) != replica:
            self.withdraw(request_id)
            self._add(replica, request_id, request)
        self._on_the_way.pop(request_id, None)
        self._replicas[replica].heard_at = self._clock()

    def refused(self, replica: Hashable, request_id: str) -> None:
        """Note that ``replica`` did not take the request."""
        if request_id in self._on_the_way and self._place[request_id] == replica:
            self.withdraw(request_id)

    def returned(self, replica: Hashable, request_id: str) -> None:
        """Note that ``replica`` answered or failed, or that nobody wants the answer any more."""
        if self._place.get(request_id) != replica:
            return  # sent elsewhere since
        self._on_the_way.pop(request_id, None)
        state = self._replicas[self._place.pop(request_id)]
        state.heard_at = self._clock()
        state.waiting.pop(request_id, None)
        state.running.discard(request_id)
        # The rows of a batch end together. Here the last answer ends it, which is late by the
        # time that encoding takes.
        if state.batch and not state.running:
            self._start(state)

    def withdraw(self, request_id: str) -> None:
        """Forget the request, as if it had never been sent anywhere."""
        self._on_the_way.pop(request_id, None)
        if request_id not in self._place:
            return
        state = self._replicas[self._place.pop(request_id)]
        state.waiting.pop(request_id, None)
        state.running.discard(request_id)
        if state.batch.pop(request_id, None) and not state.running:
            self._start(state)

    def forget_lost(self) -> None:
        """Forget requests that have not arrived within ``PATIENCE_S``."""
        latest = self._clock() - PATIENCE_S
        for request_id, since in list(self._on_the_way.items()):
            if since > latest:
                return
            self.withdraw(request_id)

    def keep(self, replicas: Iterable[Hashable]) -> None:
        """Forget all replicas but ``replicas``."""
        for gone in self._replicas.keys() - set(replicas):
            state = self._replicas.pop(gone)
            for request_id in (*state.waiting, *state.running):
                del self._place[request_id]
                self._on_the_way.pop(request_id, None)

    def held(self, replica: Hashable) -> int:
        """Return how many requests were sent to ``replica`` and have not come back."""
        state = self._replicas.get(replica)
        return len(state.waiting) + len(state.running) if state else 0

    def silent(self, replica: Hashable) -> float:
        """Seconds since ``replica`` last took or answered a request of ours; inf if never."""
        state = self._replicas.get(replica)
        return self._clock() - state.heard_at if state else math.inf

    def calibrate(self, calibration: Calibration | None) -> None:
        """Estimate by ``calibration``; None: by what was assumed at first."""
        estimator = self._assumed if calibration is None else self._assumed.calibrated(calibration)
        self._estimator = replace(estimator, scale=self._estimator.scale)

    def scale_to(self, scale: float) -> None:
        """Set the ratio of measured to estimated time of batches."""
        self._estimator = replace(self._estimator, scale=scale)

    def seconds(
        self,
        replica: Hashable,
        request: ResolvedRequest,
        *,
        others: int = 0,
        busy: float = 0.0,
        loras: tuple[Lora, ...] | None = None,
    ) -> float:
        """Return the seconds until ``request`` would be finished, sent to ``replica`` now.

        ``others``: requests that the replica has from other senders, each taken to cost the average
        of ours. ``busy``: seconds of work that the replica itself reported, whatever its sender.
        ``loras``: the adapters that it reported; None: those of our last batch.
        """
        state = self._replicas.get(replica, _Replica())
        running = 0.0
        if state.batch:
            batch = self._estimator.batch(list(state.batch.values()))
            running = max(0.0, batch - (self._clock() - state.since))
        waiting = [*state.waiting.items(), (_OURS, request)]
        before = 0.0
        merged = state.loras or () if loras is None else loras
        while True:
            rows, waiting = self._batch_of(waiting)
            ids, next_batch = zip(*rows, strict=True)
            change = self._estimator.change(merged, next_batch[0].loras)
            seconds = change + self._estimator.batch(next_batch)
            merged = next_batch[0].loras
            if ids[-1] == _OURS:
                break
            before += seconds
        before += running + others * (self._request_seconds or self._estimator.share(request))
        # The reported work includes requests that would share the batch of ``request``.
        mates = sum(map(self._estimator.share, next_batch[:-1]))
        return max(before, busy - mates) + seconds

    def _add(self, replica: Hashable, request_id: str, request: ResolvedRequest) -> None:
        share = self._estimator.share(request)
        self._request_seconds = moved(self._request_seconds or share, share)
        state = self._replicas.setdefault(replica, _Replica())
        self._place[request_id] = replica
        state.waiting[request_id] = request
        if not state.batch:
            self._start(state)

    def _start(self, state: _Replica) -> None:
        rows, waiting = self._batch_of(list(state.waiting.items()))
        state.batch, state.waiting = dict(rows), dict(waiting)
        state.running = set(state.batch)
        state.since = self._clock()
        if rows:
            state.loras = rows[0][1].loras

    def _batch_of(self, waiting: Sequence[_Sent]) -> tuple[list[_Sent], list[_Sent]]:
        return self._estimator.next_batch(waiting, lambda sent: sent[1])
