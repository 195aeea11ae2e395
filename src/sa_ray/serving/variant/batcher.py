"""The batcher: requests share engine calls where they can, and the engine runs one at a time."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NoReturn

from sa_ray.contracts import ResolvedRequest
from sa_ray.engines import Audio, BatchOutcome, Cancelled, Engine, Generated
from sa_ray.errors import InfrastructureError, ReplicaBrokenError
from sa_ray.scheduling.fairness import FairOrder, Turn
from sa_ray.scheduling.replica_load import Workload
from sa_ray.serving.ray_errors import RETRY_AFTER_S
from sa_ray.serving.variant.engine_health import EngineHealth
from sa_ray.serving.variant.spending import OWNER, Cost
from sa_ray.telemetry import current_traceparent, is_tracing, record_span

logger = logging.getLogger(__name__)

MAX_PAUSE_S = 10.0
"""Longest time for which the failure of a batch is kept back."""

PROGRESS_PERIOD_S = 0.1
"""Least time between two reports of a row's progress; its first and its last step always count.
Each wakes the event loop, and a GPU takes a few milliseconds for a step."""

OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Samples of one request.

    ``seconds``: time that its batch took. ``waited``: seconds until that began.
    """

    samples: Audio
    seconds: float
    waited: float = 0.0

    def behind(self, first: "Rendered") -> "Rendered":
        """Return these samples, with what ``first`` took before them added."""
        return Rendered(self.samples, first.seconds + self.seconds, first.waited + self.waited)


@dataclass(slots=True, eq=False)
class _Row:
    request: ResolvedRequest
    on_progress: OnProgress
    source: Audio | None
    done: asyncio.Future[Rendered]
    turn: Turn
    since: float
    traceparent: str | None = field(default_factory=current_traceparent)
    cancelled: bool = field(default=False)


class Batcher:
    """Runs waiting requests in the batches that ``batch_rule`` forms, the owners' in a fair order:
    whose turn it is begins a batch, and whatever fits it comes along.

    The bounds are those of ``workload.estimator``: ``max_rows`` and ``max_seconds``.

    The engine runs in one thread of its own, so it never runs twice at once. This holds even when a
    caller has gone and Serve has already given its slot to the next request.
    """

    def __init__(
        self,
        engine: Engine,
        workload: Workload,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[Sequence[Cost], float], object] = lambda rows, seconds: None,
    ) -> None:
        """``clock`` gives seconds that only grow, to whoever asks.

        ``spent(rows, seconds)`` is called after each batch that did not fail as a whole.
        """
        self._spent = spent
        self._clock = clock
        self._engine = engine
        self._workload = workload
        self._waiting: list[_Row] = []
        self._order = FairOrder()
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self.health = EngineHealth(engine)

    def set_limits(self, *, max_rows: int, max_seconds: float) -> None:
        """Change the bounds from the next batch on."""
        workload = self._workload
        workload.estimator = replace(workload.estimator, max_rows=max_rows, max_seconds=max_seconds)

    @property
    def waiting(self) -> list[ResolvedRequest]:
        """Requests that no batch has taken yet."""
        return [row.request for row in self._waiting]

    async def render(
        self, request: ResolvedRequest, on_progress: OnProgress, source: Audio | None = None
    ) -> Rendered:
        """Generate one request, in any batch that it fits, from ``source`` as the engine wants it.

        ``on_progress`` is called on this event loop. Cancelling the caller drops the row: at once
        while it waits, before the next step once it runs. Raises the row's ``GenerationError``, or
        ``InfrastructureError`` if the whole batch failed: another replica may do better. Raises
        ``ReplicaBrokenError`` if the engine is known to be broken.
        """
        if self.health.fault:
            await self._refuse(request)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Rendered] = loop.create_future()
        turn = self._order.turn(OWNER.get(), self._workload.estimator.share(request))
        row = _Row(request, on_progress, source, done, turn, time.monotonic())
        self._waiting.append(row)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        try:
            return await row.done
        finally:
            row.cancelled = True
            if row in self._waiting:
                self._waiting.remove(row)
                self._order.given_up(turn)

    async def _work(self) -> None:
        while batch := self._next_batch():
            if self.health.fault:
                _fail_rows(batch, _broken())
            else:
                await self._run(batch)

    def _next_batch(self) -> list[_Row]:
        waiting = sorted(self._waiting, key=lambda row: row.turn.start)
        estimator = self._workload.estimator
        batch, self._waiting = estimator.next_batch(waiting, lambda row: row.request)
        if batch:
            self._order.served([row.turn for row in batch])
        return batch

    async def _run(self, batch: list[_Row]) -> None:
        loop = asyncio.get_running_loop()

        told = [-math.inf] * len(batch)

        def on_step(index: int, fraction: float) -> None:
            now = self._clock()
            if now - told[index] >= PROGRESS_PERIOD_S or fraction >= 1:
                told[index] = now
                loop.call_soon_threadsafe(self._report, batch[index], fraction)

        def generate() -> list[BatchOutcome]:
            return self._engine.generate(
                [row.request for row in batch],
                on_step,
                lambda index: batch[index].cancelled,
                [row.source for row in batch],
            )

        started = time.monotonic()
        self._workload.started([row.request for row in batch], crowded=bool(self.waiting))
        try:
            outcomes = await loop.run_in_executor(self._thread, generate)
        except Exception as error:  # noqa: BLE001 - whatever it was, the callers must hear of it
            await self._fail(batch, error, started)
            return
        self.health.succeeded()
        _trace(batch, started)
        self._workload.finished(learn=all(isinstance(one, Generated) for one in outcomes))
        seconds = time.monotonic() - started
        share = self._workload.estimator.share
        costs = [Cost(r.request, r.turn.owner, started - r.since, share(r.request)) for r in batch]
        self._spent(costs, seconds)
        for row, outcome in zip(batch, outcomes, strict=True):
            if not row.done.done():
                _settle(row.done, outcome, seconds, started - row.since)

    async def _fail(self, batch: list[_Row], error: Exception, started: float) -> None:
        """Tell the callers of a batch that failed as a whole, as late as if it had succeeded.

        A replica that fails at once would otherwise be the first that is free for more.
        """
        logger.error("a batch of %d failed as a whole", len(batch), exc_info=error)
        self.health.failed(error)
        _trace(batch, started, error)
        expected = self._workload.estimator.batch([row.request for row in batch])
        pause = min(expected, MAX_PAUSE_S) - (time.monotonic() - started)
        if pause > 0:
            await asyncio.wait([row.done for row in batch], timeout=pause)
        self._workload.finished(learn=False)
        _fail_rows(
            batch,
            InfrastructureError(
                "The engine of a replica failed on a whole batch.", retry_after_s=RETRY_AFTER_S
            ),
        )

    async def _refuse(self, request: ResolvedRequest) -> NoReturn:
        """Raise ``ReplicaBrokenError``, as late as the request would have been done."""
        await asyncio.sleep(min(self._workload.estimator.share(request), MAX_PAUSE_S))
        raise _broken()

    def _report(self, row: _Row, fraction: float) -> None:
        self._workload.progressed(fraction)
        if not row.cancelled:
            row.on_progress(fraction)


def _trace(batch: list[_Row], began: float, error: Exception | None = None) -> None:
    """Add the spans of each row: that it waited, and the batch, which has now ended."""
    if not is_tracing():
        return
    ended, rows = time.monotonic(), {"sa_ray.batch.clips": len(batch)}
    for row in batch:
        record_span("queue", row.traceparent, row.since, began)
        record_span("engine", row.traceparent, began, ended, rows, error)


def _fail_rows(batch: list[_Row], error: Exception) -> None:
    for row in batch:
        if not row.done.done():
            row.done.set_exception(error)


def _broken() -> ReplicaBrokenError:
    return ReplicaBrokenError(
        "The engine of a replica is broken; another takes its place.", retry_after_s=RETRY_AFTER_S
    )


def _settle(
    done: asyncio.Future[Rendered], outcome: BatchOutcome, seconds: float, waited: float
) -> None:
    match outcome:
        case Generated(samples):
            done.set_result(Rendered(samples, seconds, waited))
        case Cancelled():
            done.cancel()
        case error:
            done.set_exception(error)
