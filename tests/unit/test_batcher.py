"""The batcher, with an engine that records what it is asked and waits to be told to go on."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sa_ray.contracts import EngineName, ResolvedRequest, UsageRow
from sa_ray.engines import Audio, BatchOutcome, Cancelled, DeviceLostError, Generated
from sa_ray.engines.port import IsCancelled, OnStep
from sa_ray.errors import GenerationError, InfrastructureError, ReplicaBrokenError
from sa_ray.jobs import UsageMeter
from sa_ray.scheduling import costs
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.replica_load import Workload
from sa_ray.serving.variant.batcher import PROGRESS_PERIOD_S, Batcher
from sa_ray.serving.variant.engine_health import MAX_FAILED_BATCHES
from sa_ray.serving.variant.spending import OWNER, Cost, Spending
from sa_ray.telemetry import close_tracing, span
from tests.support.otlp_collector import CLIENT_TRACE, TRACEPARENT, Collector


def request(prompt: str, *, steps: int = 4, duration: float = 1.0) -> ResolvedRequest:
    return ResolvedRequest(
        model="small-sfx", prompt=prompt, duration=duration, steps=steps, cfg_scale=1, seed=0
    )


class GatedEngine:
    """Implements the engine port; each step waits for one ``allow_steps``."""

    name: EngineName = "procedural"
    device = "cpu"
    sample_rate = 44_100
    fault: str | None = None

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.steps_run = 0
        self.most_at_once = 0
        self._at_once = 0
        self._gate = threading.Semaphore(0)
        self.started = threading.Event()

    def allow_steps(self, count: int = 1_000) -> None:
        self._gate.release(count)

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self.batches.append([row.prompt for row in batch])
        outcomes: list[BatchOutcome] = [
            GenerationError(row.prompt)
            if row.prompt == "bad"
            else Generated(np.zeros((2, 10), np.float32))
            for row in batch
        ]
        for step in range(batch[0].steps):
            self.started.set()
            if not self._gate.acquire(timeout=10):
                raise TimeoutError
            for index in range(len(batch)):
                if is_cancelled(index):
                    outcomes[index] = Cancelled()
            if all(isinstance(outcome, Cancelled) for outcome in outcomes):
                break
            self.steps_run += 1
            for index in range(len(batch)):
                on_step(index, (step + 1) / batch[0].steps)
        if any(row.prompt == "broken" for row in batch):
            raise RuntimeError("the whole batch failed")
        self._at_once -= 1
        return outcomes


def batching(
    engine: GatedEngine,
    *,
    max_rows: int,
    max_seconds: float,
    row_seconds: float = 1,
    clock: Callable[[], float] = time.monotonic,
    spent: Callable[[Sequence[Cost], float], object] = lambda rows, seconds: None,
) -> Batcher:
    cost = costs.Cost(batch=0, row=row_seconds, second=0, sampling=0, guidance=1)
    workload = Workload(Estimator(cost, max_rows, max_seconds), target_wait=10)
    return Batcher(engine, workload, clock, spent)


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


def render(
    batcher: Batcher, row: ResolvedRequest, progress: list[float] | None = None
) -> "asyncio.Task[object]":
    report = progress.append if progress is not None else lambda _: None
    return asyncio.create_task(batcher.render(row, report))


async def started(engine: GatedEngine) -> None:
    assert await asyncio.to_thread(engine.started.wait, 10)
    engine.started.clear()


async def test_what_waits_together_runs_together(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=3, max_seconds=100)
    first = render(batcher, request("a"))
    await started(engine)
    later = [render(batcher, request(name)) for name in "bcde"]
    await asyncio.sleep(0)
    engine.allow_steps()

    await asyncio.gather(first, *later)

    assert engine.batches == [["a"], ["b", "c", "d"], ["e"]]
    assert engine.most_at_once == 1


async def test_keys_are_not_mixed_and_the_oldest_goes_first(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=8, max_seconds=100)
    first = render(batcher, request("a"))
    await started(engine)
    rows = [request("b", steps=2), request("c"), request("d", steps=2), request("e")]
    later = [render(batcher, row) for row in rows]
    await asyncio.sleep(0)
    engine.allow_steps()

    await asyncio.gather(first, *later)

    assert engine.batches == [["a"], ["b", "d"], ["c", "e"]]


async def test_changed_limits_hold_from_the_next_batch(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=8, max_seconds=100)
    first = render(batcher, request("a"))
    await started(engine)
    later = [render(batcher, request(name)) for name in "bcd"]
    await asyncio.sleep(0)
    batcher.set_limits(max_rows=1, max_seconds=100)
    engine.allow_steps()

    await asyncio.gather(first, *later)

    assert engine.batches == [["a"], ["b"], ["c"], ["d"]]


async def test_padded_seconds_are_bounded_and_an_oversize_row_runs_alone(
    engine: GatedEngine,
) -> None:
    batcher = batching(engine, max_rows=8, max_seconds=10)
    first = render(batcher, request("a"))
    await started(engine)
    rows = [request("b", duration=3), request("c", duration=6), request("d", duration=3),
            request("long", duration=50)]  # fmt: skip
    later = [render(batcher, row) for row in rows]
    await asyncio.sleep(0)
    engine.allow_steps()

    await asyncio.gather(first, *later)

    assert engine.batches == [["a"], ["b", "d"], ["c"], ["long"]]


@pytest.mark.parametrize(
    ("step_s", "told"),
    [(PROGRESS_PERIOD_S, [0.25, 0.5, 0.75, 1.0]), (PROGRESS_PERIOD_S / 9, [0.25, 1.0])],
    ids=["slow steps", "quick steps"],
)
async def test_progress_reaches_its_own_caller_as_often_as_is_of_use(
    engine: GatedEngine, step_s: float, told: list[float]
) -> None:
    times = itertools.count()
    batcher = batching(engine, max_rows=2, max_seconds=100, clock=lambda: next(times) * step_s)
    engine.allow_steps()
    progress: list[float] = []

    await render(batcher, request("a"), progress)

    assert progress == pytest.approx(told)


async def test_a_caller_that_goes_stops_the_engine_at_the_next_step(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100)
    gone = render(batcher, request("gone", steps=50))
    await started(engine)
    engine.allow_steps(3)
    while engine.steps_run < 3:
        await asyncio.sleep(0)

    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone

    following = render(batcher, request("next"))
    engine.allow_steps()

    await following

    assert engine.batches == [["gone"], ["next"]]
    assert engine.steps_run == 3 + 4
    assert engine.most_at_once == 1


async def test_a_caller_that_goes_while_waiting_never_reaches_the_engine(
    engine: GatedEngine,
) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100)
    first = render(batcher, request("a"))
    await started(engine)
    gone = render(batcher, request("gone"))
    await asyncio.sleep(0)
    gone.cancel()
    engine.allow_steps()

    await asyncio.gather(first, gone, return_exceptions=True)
    await render(batcher, request("b"))

    assert engine.batches == [["a"], ["b"]]


async def test_a_bad_row_fails_alone(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=3, max_seconds=100)
    first = render(batcher, request("a"))
    await started(engine)
    bad, good = render(batcher, request("bad")), render(batcher, request("good"))
    await asyncio.sleep(0)
    engine.allow_steps()
    await first

    with pytest.raises(GenerationError, match="bad"):
        await bad
    await good

    assert engine.batches == [["a"], ["bad", "good"]]


async def test_a_failed_batch_fails_its_rows_and_nothing_else(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100, row_seconds=0.01)
    engine.allow_steps()

    with pytest.raises(InfrastructureError, match="whole batch"):
        await render(batcher, request("broken"))
    await render(batcher, request("fine"))

    assert engine.batches == [["broken"], ["fine"]]
    assert batcher.health.fault is None


async def test_failing_takes_a_batch_no_less_time_than_its_work(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=2, max_seconds=100, row_seconds=0.2)
    engine.allow_steps()
    began = time.monotonic()

    with pytest.raises(InfrastructureError):
        await render(batcher, request("broken"))

    assert time.monotonic() - began >= 0.2


async def test_nobody_waits_for_a_failure_that_nobody_wants_to_hear_of(
    engine: GatedEngine,
) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100, row_seconds=1000)
    engine.allow_steps()
    lost = render(batcher, request("broken"))
    while not batcher.health.failed_in_a_row:
        await asyncio.sleep(0)

    lost.cancel()

    async with asyncio.timeout(5):
        await render(batcher, request("fine"))


async def test_some_failed_batches_in_a_row_are_a_fault_of_the_engine(
    engine: GatedEngine,
) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100, row_seconds=0.001)
    engine.allow_steps()
    faults = []
    for prompt in (
        ["broken"] * (MAX_FAILED_BATCHES - 1) + ["fine"] + ["broken"] * MAX_FAILED_BATCHES
    ):
        await asyncio.gather(render(batcher, request(prompt)), return_exceptions=True)
        faults.append(batcher.health.fault is not None)

    assert faults == [False] * (2 * MAX_FAILED_BATCHES - 1) + [True]


async def test_a_bad_row_is_no_fault_of_the_engine(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100)
    engine.allow_steps()

    for _ in range(MAX_FAILED_BATCHES):
        with pytest.raises(GenerationError):
            await render(batcher, request("bad"))

    assert batcher.health.fault is None


async def test_a_lost_device_is_a_fault_at_once(
    engine: GatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100, row_seconds=0.001)

    def lose(*_: object) -> list[BatchOutcome]:
        raise DeviceLostError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(engine, "generate", lose)

    outcomes = await asyncio.gather(
        *(render(batcher, request(prompt)) for prompt in "abc"), return_exceptions=True
    )
    with pytest.raises(ReplicaBrokenError):
        await render(batcher, request("d"))

    assert batcher.health.fault == "the device of this process is lost"
    assert [type(outcome) for outcome in outcomes] == [
        InfrastructureError,
        ReplicaBrokenError,
        ReplicaBrokenError,
    ]


async def test_a_fault_of_the_engine_counts_before_any_batch_meets_it(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100, row_seconds=0.001)
    engine.fault = "the engine's process was ended by SIGKILL"

    with pytest.raises(ReplicaBrokenError):
        await render(batcher, request("a"))

    assert batcher.health.fault == engine.fault
    assert engine.batches == []


async def test_each_row_of_a_batch_is_told_of_with_its_key(engine: GatedEngine) -> None:
    spent: list[Sequence[Cost]] = []
    batcher = batching(
        engine, max_rows=8, max_seconds=100, spent=lambda rows, seconds: spent.append(rows)
    )
    work = []
    for owner in ("first", "anna", "ben"):
        OWNER.set(owner)
        work.append(render(batcher, request(owner)))
        if owner == "first":
            await started(engine)
    engine.allow_steps()
    await asyncio.gather(*work)

    assert [[(row.owner, row.request.prompt) for row in rows] for rows in spent] == [
        [("first", "first")],
        [("anna", "anna"), ("ben", "ben")],
    ]
    assert all(row.waited > 0 for row in spent[1])


async def test_the_gpu_seconds_of_a_batch_are_shared_by_the_work_of_its_rows() -> None:
    reports: list[UsageRow] = []

    async def take(_: str, rows: Sequence[UsageRow]) -> None:
        reports.extend(rows)

    meter = UsageMeter(take)
    shares = (("anna", 1.0), ("ben", 3.0), ("anna", 1.0))
    rows = [Cost(request("a"), owner, waited=0.0, work=work) for owner, work in shares]
    Spending("small-sfx", 0.5, meter).batch(rows, seconds=10.0)
    await meter.close()

    assert {row.owner: row.gpu_seconds for row in reports} == pytest.approx(
        {"anna": 2.0, "ben": 3.0}
    )


async def test_owners_take_turns_to_begin_a_batch(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=2, max_seconds=60)
    begun = {"many": 0, "one": 0}

    def ask(owner: str, steps: int = 4) -> "asyncio.Task[object]":
        OWNER.set(owner)  # which the task takes along
        begun[owner] += 1
        return render(batcher, request(f"{owner} {begun[owner]}", steps=steps))

    work = [ask("many") for _ in range(6)]
    await started(engine)  # with those that had come
    work += [ask("one", steps=5)]  # which fits no batch of the others
    while len(batcher.waiting) < 5:
        await asyncio.sleep(0)
    engine.allow_steps()
    await asyncio.gather(*work)

    assert engine.batches[0] == ["many 1", "many 2"]
    assert ["one 1"] in engine.batches[1:3]
    made = [prompt for batch in engine.batches for prompt in batch if prompt.startswith("many")]
    assert made == [f"many {number}" for number in range(1, 7)]


async def test_requests_that_were_given_up_are_not_charged(engine: GatedEngine) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=1)

    def ask(owner: str, number: int) -> "asyncio.Task[object]":
        OWNER.set(owner)  # which the task takes along
        return render(batcher, request(f"{owner} {number}"))

    work = [ask("busy", number) for number in range(20)]
    await started(engine)
    for number in range(50):
        gone = ask("patient", number)
        while len(batcher.waiting) < 20:
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
    work += [ask("patient", 50)]
    while len(batcher.waiting) < 20:
        await asyncio.sleep(0)
    engine.allow_steps()
    await asyncio.gather(*work)

    assert ["patient 50"] in engine.batches[1:3]


async def test_rows_that_are_traced_wait_and_run_in_their_own_traces(
    engine: GatedEngine, collector: Collector
) -> None:
    batcher = batching(engine, max_rows=3, max_seconds=100)
    first = render(batcher, request("a"))  # untraced, but for spans of its own
    await started(engine)
    with span("call of b", TRACEPARENT):
        one = render(batcher, request("b"))
    with span("call of c"):
        other = render(batcher, request("c"))
    await asyncio.sleep(0)
    engine.allow_steps()

    await asyncio.gather(first, one, other)
    await close_tracing()

    spans = collector.until(lambda spans: len(spans) == 8)
    calls = {span.name: span for span in spans if span.name.startswith("call")}
    for call in calls.values():
        children = {span.name: span for span in spans if span.parent_id == call.span_id}
        assert set(children) == {"queue", "engine"}
        assert {child.trace_id for child in children.values()} == {call.trace_id}
        assert children["engine"].attributes["sa_ray.batch.clips"] == 2
        assert children["queue"].ended == pytest.approx(children["engine"].began, abs=0.1)
    assert calls["call of b"].trace_id == CLIENT_TRACE != calls["call of c"].trace_id


async def test_the_trace_tells_of_a_failed_batch(engine: GatedEngine, collector: Collector) -> None:
    batcher = batching(engine, max_rows=1, max_seconds=100, row_seconds=0)
    engine.allow_steps()

    with pytest.raises(InfrastructureError):
        await render(batcher, request("broken"))
    await close_tracing()

    [ran] = collector.named("engine")
    assert ran.failed
    assert ran.attributes["error.type"] == "RuntimeError"
