"""What a sender of requests expects of each replica."""

import pytest

from bench.simulation.forecast import Forecast
from sa_ray.contracts import ResolvedRequest
from sa_ray.costs import Cost, Estimator

COST = Cost(batch=4, row=0, second=0.1, sampling=0, guidance=1)
SHORT_S = 4 + 0.5
LONG_S = 4 + 30


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def forecast(clock: Clock) -> Forecast:
    return Forecast(Estimator(COST, max_rows=2, max_seconds=600), clock)


def clip(duration: float = 5) -> ResolvedRequest:
    return ResolvedRequest(
        model="medium", prompt="rain", duration=duration, steps=8, cfg_scale=1, seed=0
    )


def test_an_idle_replica_starts_at_once(forecast: Forecast) -> None:
    assert forecast.seconds("a", clip()) == pytest.approx(SHORT_S)


def test_a_long_clip_delays_what_is_behind_it_until_it_is_done(
    forecast: Forecast, clock: Clock
) -> None:
    forecast.sent("a", "long", clip(300))
    assert forecast.seconds("a", clip()) == pytest.approx(LONG_S + SHORT_S)
    clock.now += 30
    assert forecast.seconds("a", clip()) == pytest.approx(LONG_S - 30 + SHORT_S)
    clock.now += 100
    assert forecast.seconds("a", clip()) == pytest.approx(SHORT_S), "overdue: any moment"
    forecast.returned("a", "long")
    assert forecast.held("a") == 0


def test_a_batch_that_forms_and_has_room_costs_little_more(forecast: Forecast) -> None:
    forecast.sent("a", "running", clip())
    forecast.sent("a", "waiting", clip())
    assert forecast.seconds("a", clip()) == pytest.approx(SHORT_S + 4 + 2 * 0.5)
    forecast.sent("a", "last that fits", clip())
    full = SHORT_S + (4 + 2 * 0.5)
    assert forecast.seconds("a", clip()) == pytest.approx(full + SHORT_S)


def test_lengths_that_do_not_batch_take_turns(forecast: Forecast) -> None:
    for name, duration in (("running", 5), ("long", 300), ("short", 5)):
        forecast.sent("a", name, clip(duration))
    assert forecast.seconds("a", clip(300)) == pytest.approx(SHORT_S + 4 + 2 * 30)


def test_the_next_batch_begins_when_the_first_row_of_one_returns(
    forecast: Forecast, clock: Clock
) -> None:
    for name in ("running", "second", "third"):
        forecast.sent("a", name, clip())
    clock.now += SHORT_S
    forecast.returned("a", "running")
    clock.now += 1
    assert forecast.seconds("a", clip(300)) == pytest.approx(4 + 2 * 0.5 - 1 + LONG_S)
    forecast.returned("a", "second")
    forecast.returned("a", "third")
    assert forecast.held("a") == 0


def test_requests_of_others_count_like_the_average_of_ours(forecast: Forecast) -> None:
    forecast.sent("b", "ours", clip())
    share = 4 / 2 + 0.5
    assert forecast.seconds("a", clip(), others=3) == pytest.approx(SHORT_S + 3 * share)


def test_what_was_not_sent_after_all_leaves_no_trace(forecast: Forecast, clock: Clock) -> None:
    forecast.sent("a", "one", clip(300))
    clock.now += 1
    forecast.withdrawn("a", "one")
    assert forecast.seconds("a", clip()) == pytest.approx(SHORT_S)
    forecast.sent("a", "one", clip())
    forecast.sent("a", "two", clip())
    forecast.withdrawn("a", "two")
    forecast.withdrawn("a", "one")
    forecast.withdrawn("elsewhere", "one")
    assert forecast.held("a") == 0


def test_replicas_that_are_gone_are_forgotten(forecast: Forecast) -> None:
    forecast.sent("a", "one", clip())
    forecast.keep(["b"])
    forecast.returned("a", "one")
    assert forecast.held("a") == 0


def test_estimates_follow_what_batches_take(forecast: Forecast, clock: Clock) -> None:
    for number in range(100):
        forecast.sent("a", str(number), clip())
        clock.now += 3 * SHORT_S
        forecast.returned("a", str(number))
    assert forecast.seconds("b", clip()) == pytest.approx(3 * SHORT_S, rel=0.01)
    forecast.sent("a", "cancelled", clip())
    clock.now += 0.001
    forecast.returned("a", "cancelled")
    assert forecast.seconds("b", clip()) == pytest.approx(3 * SHORT_S, rel=0.01)
