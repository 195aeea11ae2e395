"""Replicas of one variant, and how requests reach them: durable queue, handle, replica, batch."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sa_ray.contracts import ResolvedRequest
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.forecast import Forecast
from sa_ray.scheduling.replica_load import Workload
from sa_ray.scheduling.reports import MIN_BUSY_S
from sa_ray.serving.router import MAX_CANDIDATES, REPORT_AGE_S

NOISE = 0.1
"""Standard deviation of the logarithm of a batch's time over its cost."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Properties of a replica. ``slowness``: measured over estimated time of batches."""

    name: str
    cost: Cost
    max_rows: int
    max_seconds: float
    start_seconds: float
    slowness: float = 1.0

    @property
    def estimator(self) -> Estimator:
        return Estimator(self.cost, self.max_rows, self.max_seconds)

    @property
    def max_ongoing(self) -> int:
        return 2 * self.max_rows


@dataclass(slots=True, eq=False)
class Request:
    arrival: float
    body: ResolvedRequest
    started: float | None = None
    done: float | None = None


@dataclass(slots=True, eq=False)
class Replica:
    number: int
    workload: Workload
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    until: float = 0.0
    ready: bool = False
    stopping: bool = False
    open_at: int = -1
    """Its index among the replicas with room; -1: not among them."""

    @property
    def ongoing(self) -> int:
        return len(self.waiting) + len(self.running)


class Router(Protocol):
    """Sends requests to replicas; ``open_``: the replicas that take one more."""

    def choose(self, open_: Sequence[Replica], request: Request) -> Replica: ...

    def returned(self, replica: Replica, request: Request) -> None: ...


class PowerOfTwo:
    """Picks as Serve does: of two replicas at random, the one with fewer requests."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, open_: Sequence[Replica], request: Request) -> Replica:
        one, other = (open_[int(i)] for i in self._rng.random(2) * len(open_))
        return one if one.ongoing <= other.ongoing else other

    def returned(self, replica: Replica, request: Request) -> None:
        pass


class EarliestCompletion:
    """Picks as ``EarliestCompletionRouter`` does, over the same forecast.

    Several handles share the requests at random. Reports of replicas are up to ``REPORT_AGE_S``
    old. The number of their requests is known at any time, which flatters several handles.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        estimator: Estimator,
        clock: Callable[[], float],
        handles: int = 1,
    ) -> None:
        self._rng = rng
        self._estimator = estimator
        self._clock = clock
        self._reports: dict[int, tuple[float, float]] = {}
        self._forecasts = [Forecast(estimator, clock) for _ in range(handles)]
        self._sender: dict[int, Forecast] = {}

    def choose(self, open_: Sequence[Replica], request: Request) -> Replica:
        forecast = self._forecasts[int(self._rng.random() * len(self._forecasts))]
        self._sender[id(request)] = forecast
        count = min(MAX_CANDIDATES, len(open_))
        drawn = [open_[i] for i in self._rng.choice(len(open_), count, replace=False)]

        def seconds(replica: Replica) -> float:
            others = replica.ongoing - forecast.held(replica.number)
            old = forecast.silent(replica.number) > REPORT_AGE_S
            busy = self._busy(replica) if others or old else 0.0
            return forecast.seconds(replica.number, request.body, others=others, busy=busy)

        best = min(drawn, key=seconds)
        forecast.arrived(best.number, str(id(request)), request.body)
        return best

    def _busy(self, replica: Replica) -> float:
        """Return the seconds of work that the replica last reported; it knows its own progress."""
        now = self._clock()
        at, until = self._reports.get(replica.number, (-REPORT_AGE_S, 0.0))
        if now >= at + REPORT_AGE_S:
            left = sum(self._estimator.share(one.body) for one in replica.waiting)
            until = max(now, replica.until) + left if replica.running else 0.0
            self._reports[replica.number] = now, until if until - now > MIN_BUSY_S else 0.0
        return max(0.0, self._reports[replica.number][1] - now)

    def returned(self, replica: Replica, request: Request) -> None:
        self._sender.pop(id(request)).returned(replica.number, str(id(request)))


def in_order(waiting: list[Request], estimator: Estimator) -> list[Request]:
    """Return the oldest request, and those behind it that may join it."""
    return estimator.next_batch(waiting, lambda request: request.body)[0]


class Fleet:
    """Replicas, and the requests on their way to them. The caller moves ``now``."""

    def __init__(
        self,
        machine: Machine,
        max_replicas: int,
        rng: np.random.Generator,
        handles: int | None = 1,
        target_wait: float = 1.0,
    ) -> None:
        """Build an empty fleet.

        ``handles``: how many handles route requests as the service does; None: Serve's own router.
        """
        self.now = 0.0
        self.machine = machine
        self.replicas: list[Replica] = []
        self.replica_seconds = 0.0
        self.work_seconds = 0.0
        self.durable: deque[Request] = deque()
        self.handle: deque[Request] = deque()
        self.durable_seconds = 0.0
        self.ongoing = 0
        self.target = 0
        self._target_wait = target_wait
        self._capacity = max_replicas * machine.max_ongoing
        self._rng = rng
        self._estimator = machine.estimator
        self._router: Router = (
            PowerOfTwo(rng)
            if handles is None
            else EarliestCompletion(rng, self._estimator, lambda: self.now, handles)
        )
        self._open: list[Replica] = []
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, bool, Replica]] = []
        self._changed_at = 0.0

    @property
    def next_event(self) -> float:
        return self._events[0][0] if self._events else float("inf")

    @property
    def running(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.ready and not replica.stopping]

    def submit(self, request: Request) -> None:
        self.durable.append(request)
        self.durable_seconds += self._counted(request)
        self._route()

    def scale_to(self, target: int) -> None:
        """Start replicas, or stop some.

        Starting replicas stop first, then the newest, which finish the requests they have.
        """
        self.target = target
        staying = [replica for replica in self.replicas if not replica.stopping]
        for _ in range(target - len(staying)):
            replica = Replica(
                next(self._numbers), Workload(self._estimator, self._target_wait, lambda: self.now)
            )
            self._account()
            self.replicas.append(replica)
            self._at(self.now + self.machine.start_seconds, replica, ready=True)
        staying.sort(key=lambda replica: (replica.ready, -replica.number))
        for replica in staying[: max(0, len(staying) - target)]:
            replica.stopping = True
            self._close(replica)
            self._remove_if_idle(replica)

    def happen(self) -> None:
        """Let the next event happen; ``now`` is its time."""
        self.now, _, ready, replica = heapq.heappop(self._events)
        if ready:
            replica.ready = True
            if not replica.stopping:
                self._add_open(replica)
            self._route()
            return
        replica.workload.finished(learn=True)
        self.ongoing -= len(replica.running)
        for request in replica.running:
            request.done = self.now
            self._router.returned(replica, request)
        replica.running = []
        self._start(replica)
        if not replica.stopping and replica.open_at < 0:
            self._add_open(replica)
        self._route()
        self._remove_if_idle(replica)

    def _route(self) -> None:
        while self.durable and self.ongoing < self._capacity:
            request = self.durable.popleft()
            self.durable_seconds -= self._counted(request)
            self.ongoing += 1
            self.handle.append(request)
        while self.handle and self._open:
            request = self.handle.popleft()
            replica = self._router.choose(self._open, request)
            replica.waiting.append(request)
            if replica.ongoing >= self.machine.max_ongoing:
                self._close(replica)
            if not replica.running:
                self._start(replica)

    def _counted(self, request: Request) -> float:
        return self._estimator.work([request.body], self._target_wait)

    def _start(self, replica: Replica) -> None:
        batch = in_order(replica.waiting, self._estimator)
        if not batch:
            return
        taken = set(map(id, batch))
        replica.waiting = [request for request in replica.waiting if id(request) not in taken]
        replica.running = batch
        bodies = [request.body for request in batch]
        replica.workload.started(bodies, crowded=bool(replica.waiting))
        for request in batch:
            request.started = self.now
        noise = float(np.exp(NOISE * self._rng.standard_normal()))
        seconds = self.machine.cost.of(bodies) * self.machine.slowness * noise
        replica.until = self.now + seconds
        self.work_seconds += seconds
        self._at(replica.until, replica, ready=False)

    def _at(self, time: float, replica: Replica, *, ready: bool) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), ready, replica))

    def _add_open(self, replica: Replica) -> None:
        replica.open_at = len(self._open)
        self._open.append(replica)

    def _close(self, replica: Replica) -> None:
        if replica.open_at < 0:
            return
        last = self._open.pop()
        if last is not replica:
            self._open[replica.open_at] = last
            last.open_at = replica.open_at
        replica.open_at = -1

    def _remove_if_idle(self, replica: Replica) -> None:
        if replica.stopping and not replica.ongoing:
            self._account()
            self.replicas.remove(replica)

    def _account(self) -> None:
        self.replica_seconds += len(self.replicas) * (self.now - self._changed_at)
        self._changed_at = self.now

    def close(self) -> None:
        self._account()
