"""When each replica will have finished a request, as far as whoever sends them can tell. Pure."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from bench.simulation.batches import first_batch
from sa_ray.contracts import ResolvedRequest
from sa_ray.costs import Estimator

WEIGHT = 0.1
"""Of the newest batch in the moving averages."""

MAX_RATIO = 20.0
"""A batch that took longer than this many times its estimate, or as much shorter, was cancelled or
had the work of others in between: nothing is learned from it."""


@dataclass(slots=True)
class _Replica:
    waiting: dict[str, ResolvedRequest] = field(default_factory=dict)
    running: dict[str, ResolvedRequest] = field(default_factory=dict)
    since: float = 0.0


class Forecast:
    """Follows what was sent to each replica and what came back; replicas may be any keys.

    A replica is taken to do as ``Batcher`` does: it starts at once when it is idle, and takes what
    waits in batches, oldest first. ``clock`` gives seconds that only grow.
    """

    def __init__(self, estimator: Estimator, clock: Callable[[], float]) -> None:
        self._estimator = estimator
        self._clock = clock
        self._replicas: dict[Hashable, _Replica] = {}
        self._request_seconds = 0.0

    def sent(self, replica: Hashable, request_id: str, request: ResolvedRequest) -> None:
        state = self._replicas.setdefault(replica, _Replica())
        share = self._estimator.share(request)
        known = self._request_seconds or share
        self._request_seconds = known + WEIGHT * (share - known)
        state.waiting[request_id] = request
        if not state.running:
            self._start(state)

    def returned(self, replica: Hashable, request_id: str) -> None:
        """The answer is there, or an error, or nobody wants it any more."""
        state = self._replicas.get(replica)
        if state is None:
            return
        state.waiting.pop(request_id, None)
        if request_id in state.running:
            # The rows of a batch end together, and are encoded while the next batch runs.
            self._learn(list(state.running.values()), self._clock() - state.since)
            state.running = {}
            self._start(state)

    def withdrawn(self, replica: Hashable, request_id: str) -> None:
        """It was not sent there after all."""
        state = self._replicas.get(replica)
        if state is not None:
            state.waiting.pop(request_id, None)
            if state.running.pop(request_id, None) and not state.running:
                self._start(state)

    def keep(self, replicas: Iterable[Hashable]) -> None:
        """Forget all other replicas."""
        present = set(replicas)
        self._replicas = {key: state for key, state in self._replicas.items() if key in present}

    def held(self, replica: Hashable) -> int:
        """How many requests were sent there and have not come back."""
        state = self._replicas.get(replica)
        return len(state.waiting) + len(state.running) if state else 0

    def seconds(self, replica: Hashable, request: ResolvedRequest, others: int = 0) -> float:
        """Seconds until ``request``, sent there now, would be finished. ``others``: requests that
        the replica has from other senders; each is taken to be like the average of ours."""
        state = self._replicas.get(replica) or _Replica()
        left = 0.0
        if state.running:
            batch = self._estimator.batch(list(state.running.values()))
            left = max(0.0, batch - (self._clock() - state.since))
        waiting = [*state.waiting.values(), request]
        while request in waiting:
            batch_ahead, waiting = first_batch(self._estimator, waiting, _itself)
            left += self._estimator.batch(batch_ahead)
        return left + others * self._request_seconds

    def _start(self, state: _Replica) -> None:
        batch, _ = first_batch(self._estimator, list(state.waiting.values()), _itself)
        taken = set(map(id, batch))
        state.running = {key: row for key, row in state.waiting.items() if id(row) in taken}
        for key in state.running:
            del state.waiting[key]
        state.since = self._clock()

    def _learn(self, batch: Sequence[ResolvedRequest], seconds: float) -> None:
        expected = self._estimator.batch(batch)
        if expected / MAX_RATIO < seconds < expected * MAX_RATIO:
            scale = self._estimator.scale * (1 + WEIGHT * (seconds / expected - 1))
            self._estimator = replace(self._estimator, scale=scale)


def _itself(request: ResolvedRequest) -> ResolvedRequest:
    return request
