"""What clips cost, and what a replica learns of it."""

from dataclasses import replace

import pytest

from sa_ray.contracts import Lora, ResolvedRequest
from sa_ray.scheduling.autoscaling_policy import BUSY, PENDING_SECONDS, REQUEST_SECONDS
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.replica_load import Workload
from tests.support.clock import Clock

COST = Cost(batch=4, row=1, second=0.1, sampling=0.5, guidance=2)
ESTIMATOR = Estimator(COST, max_rows=4, max_seconds=60)
TARGET_WAIT = 20.0


def clip(
    duration: float = 10,
    *,
    steps: int = 8,
    cfg_scale: float = 1,
    loop: bool = False,
    n: int = 1,
) -> ResolvedRequest:
    return ResolvedRequest(
        model="small-sfx",
        prompt="rain",
        duration=duration,
        steps=steps,
        cfg_scale=cfg_scale,
        seed=0,
        loop=loop,
        n=n,
    )


def test_a_batch_costs_as_if_all_its_rows_were_as_long_as_the_longest() -> None:
    assert COST.of([]) == 0
    assert COST.of([clip(10)]) == pytest.approx(6)
    assert COST.of([clip(10), clip(30)]) == pytest.approx(4 + 2 * (1 + 3))


def test_a_loop_costs_as_two_clips_one_after_the_other() -> None:
    assert COST.of([clip(loop=True)]) == pytest.approx(2 * COST.of([clip()]))
    assert COST.of([clip(loop=True)] * 2) == pytest.approx(2 * COST.of([clip()] * 2))
    assert COST.of([clip(), clip(loop=True)]) == pytest.approx(2 * 4 + 3 * (1 + 1))


def test_steps_and_guidance_lengthen_the_share_that_is_sampling() -> None:
    assert COST.of([clip(steps=16)]) == pytest.approx(3 + 6)
    assert COST.of([clip(cfg_scale=3)]) == pytest.approx(3 + 6)
    assert COST.of([clip(steps=4)]) == pytest.approx(3 + 1.5)


@pytest.mark.parametrize(("duration", "rows"), [(1, 4), (15, 4), (20, 3), (60, 1), (90, 1)])
def test_a_share_is_that_of_the_fullest_batch_allowed(duration: float, rows: int) -> None:
    assert ESTIMATOR.share(clip(duration)) == pytest.approx(4 / rows + 1 + 0.1 * duration)


def test_a_request_of_several_clips_costs_a_row_for_each() -> None:
    assert ESTIMATOR.batch([clip(n=3)]) == ESTIMATOR.batch([clip(), clip(), clip()])
    assert ESTIMATOR.share(clip(n=3)) == pytest.approx(3 * ESTIMATOR.share(clip()))
    assert ESTIMATOR.work([clip(n=3)], at_most=5) == 5, "one replica makes them all"


def test_clips_over_a_batch_cost_further_batches() -> None:
    assert ESTIMATOR.batch([clip(n=8)]) == pytest.approx(2 * 4 + 8 * (1 + 1))
    assert ESTIMATOR.batch([clip(30, n=3)]) == pytest.approx(2 * 4 + 3 * (1 + 3))


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def workload(clock: Clock) -> Workload:
    return Workload(ESTIMATOR, TARGET_WAIT, clock)


def test_what_is_left_follows_the_progress_where_there_is_any(
    workload: Workload, clock: Clock
) -> None:
    assert workload.seconds_left([]) == 0

    workload.started([clip(10)], crowded=False)
    waiting = ESTIMATOR.share(clip())

    assert workload.seconds_left([]) == pytest.approx(6)
    assert workload.seconds_left([clip()]) == pytest.approx(6 + waiting)

    clock.now += 9
    assert workload.seconds_left([]) == 0, "overdue: any moment"

    workload.progressed(0.3)
    assert workload.seconds_left([]) == pytest.approx(21)

    clock.now += 5
    assert workload.seconds_left([]) == pytest.approx(16), "also between two steps"

    workload.finished(learn=False)
    assert workload.seconds_left([]) == 0
    assert workload.scale is None

    workload.started([clip(10)], crowded=False)
    clock.now += 12
    workload.finished(learn=True)
    assert workload.scale == pytest.approx(1.1)


def test_a_change_of_adapters_counts_and_does_not_make_the_replica_seem_slow(
    clock: Clock,
) -> None:
    cost = ESTIMATOR.cost.model_copy(update={"adapters": 3.0})
    workload = Workload(replace(ESTIMATOR, cost=cost), TARGET_WAIT, clock)
    warm = (Lora(name="warm", strength=1.0, sha256="0" * 64),)

    for loras, seconds in (((), 6), (warm, 9), (warm, 6), ((), 9)):
        workload.started([clip(10).model_copy(update={"loras": loras})], crowded=False)
        assert workload.loras == loras
        assert workload.seconds_left([]) == pytest.approx(seconds)
        clock.now += seconds
        workload.finished(learn=True)

    assert workload.scale == pytest.approx(1.0)


def test_what_comes_after_the_last_step_goes_by_the_estimate(
    workload: Workload, clock: Clock
) -> None:
    workload.started([clip(10)], crowded=False)
    clock.now += 4

    workload.progressed(1.0)

    assert workload.seconds_left([]) == pytest.approx(2)


def test_an_idle_replica_has_no_work(workload: Workload) -> None:
    assert workload.report([]) == {PENDING_SECONDS: 0, BUSY: 0}


def test_pending_work_is_what_waits_and_what_is_left_of_the_batch(
    workload: Workload, clock: Clock
) -> None:
    share = ESTIMATOR.share(clip())
    workload.started([clip(), clip()], crowded=False)

    assert workload.report([clip()])[PENDING_SECONDS] == pytest.approx(3 * share)

    clock.now += 4  # of 8
    assert workload.report([])[PENDING_SECONDS] == pytest.approx(share)

    clock.now += 100
    assert workload.report([])[PENDING_SECONDS] == 0


def test_no_request_counts_more_than_the_target_wait(workload: Workload) -> None:
    long = clip(300)
    assert ESTIMATOR.share(long) > TARGET_WAIT

    workload.started([long], crowded=True)

    assert workload.report([long, long])[PENDING_SECONDS] == pytest.approx(3 * TARGET_WAIT)


def test_a_replica_whose_batches_are_half_empty_is_half_busy(
    workload: Workload, clock: Clock
) -> None:
    half = [clip(), clip()]

    workload.started(half, crowded=False)
    clock.now += COST.of(half)
    workload.finished(learn=True)

    assert workload.report([])[BUSY] == pytest.approx(2 * ESTIMATOR.share(clip()) / COST.of(half))

    clock.now += 1
    assert workload.report([])[BUSY] == 0


def test_estimates_follow_what_batches_really_take(workload: Workload, clock: Clock) -> None:
    for _ in range(100):
        workload.started([clip()], crowded=False)
        clock.now += 3 * COST.of([clip()])
        workload.finished(learn=True)

    metrics = workload.report([clip()])

    assert metrics[PENDING_SECONDS] == pytest.approx(3 * ESTIMATOR.share(clip()), rel=0.01)
    assert metrics[REQUEST_SECONDS] == pytest.approx(3 * ESTIMATOR.share(clip()), rel=0.1)


def test_a_crowd_that_makes_small_batches_costs_what_those_cost(
    workload: Workload, clock: Clock
) -> None:
    pair = [clip(), clip()]
    for _ in range(100):
        workload.started(pair, crowded=True)
        clock.now += COST.of(pair)
        workload.finished(learn=True)

    metrics = workload.report([clip()])
    assert metrics[PENDING_SECONDS] == pytest.approx(COST.of(pair) / 2, rel=0.01)

    workload.started(pair, crowded=True)
    clock.now += COST.of(pair)
    assert workload.report([])[BUSY] == pytest.approx(1, rel=0.01)


def test_a_batch_that_was_cut_short_teaches_nothing(workload: Workload, clock: Clock) -> None:
    workload.started([clip()], crowded=False)
    clock.now += 0.1
    workload.finished(learn=False)

    assert workload.estimator == ESTIMATOR
