"""What a sender of requests expects of each replica."""

import pytest

from sa_ray.contracts import Lora, ResolvedRequest
from sa_ray.scheduling.costs import Calibration, Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.forecast import PATIENCE_S, Forecast
from tests.support.clock import Clock

COST = Cost(batch=4, row=0, second=0.1, sampling=0, guidance=1)
SHORT_S = 4 + 0.5
LONG_S = 4 + 30


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def forecast(clock: Clock) -> Forecast:
    return Forecast(Estimator(COST, max_rows=2, max_seconds=600), clock)


WARM, DARK = ((Lora(name=name, strength=1.0, sha256=name),) for name in ("warm", "dark"))


def clip(duration: float = 5, n: int = 1, loras: tuple[Lora, ...] = ()) -> ResolvedRequest:
    return ResolvedRequest(
        model="medium", prompt="rain", duration=duration, steps=8, cfg_scale=1, seed=0, n=n,
        loras=loras,
    )  # fmt: skip


def test_an_idle_replica_starts_at_once(forecast: Forecast) -> None:
    assert forecast.seconds("a", clip()) == pytest.approx(SHORT_S)


def test_a_long_clip_delays_what_is_behind_it_until_it_is_done(
    forecast: Forecast, clock: Clock
) -> None:
    forecast.arrived("a", "long", clip(300))
    assert forecast.seconds("a", clip()) == pytest.approx(LONG_S + SHORT_S)

    clock.now += 30
    assert forecast.seconds("a", clip()) == pytest.approx(LONG_S - 30 + SHORT_S)

    clock.now += 100
    assert forecast.seconds("a", clip()) == pytest.approx(SHORT_S), "overdue: any moment"

    forecast.returned("a", "long")
    assert forecast.held("a") == 0


def test_what_replicas_measured_counts_until_they_say_nothing_of_it(forecast: Forecast) -> None:
    forecast.scale_to(2)
    forecast.calibrate(
        Calibration(cost=COST.model_copy(update={"batch": 1.0}), max_rows=1, max_seconds=None)
    )
    forecast.arrived("a", "running", clip())
    forecast.arrived("a", "waiting", clip())

    assert forecast.seconds("a", clip()) == pytest.approx(2 * 3 * 1.5), "one at a time"

    forecast.calibrate(None)
    assert forecast.seconds("a", clip()) == pytest.approx(2 * (SHORT_S + 4 + 2 * 0.5))


def test_a_batch_that_forms_and_has_room_costs_little_more(forecast: Forecast) -> None:
    forecast.arrived("a", "running", clip())
    forecast.arrived("a", "waiting", clip())

    assert forecast.seconds("a", clip()) == pytest.approx(SHORT_S + 4 + 2 * 0.5)

    forecast.arrived("a", "last that fits", clip())
    full = SHORT_S + (4 + 2 * 0.5)

    assert forecast.seconds("a", clip()) == pytest.approx(full + SHORT_S)


def test_a_request_of_several_clips_fills_a_batch(forecast: Forecast) -> None:
    forecast.arrived("a", "long", clip(300))
    forecast.arrived("a", "waiting", clip(n=2))

    assert forecast.seconds("a", clip()) == pytest.approx(LONG_S + 5 + SHORT_S)


def test_lengths_that_do_not_batch_take_turns(forecast: Forecast) -> None:
    for name, duration in (("running", 5), ("long", 300), ("short", 5)):
        forecast.arrived("a", name, clip(duration))
    assert forecast.seconds("a", clip(300)) == pytest.approx(SHORT_S + 4 + 2 * 30)


def test_the_next_batch_begins_when_the_last_row_of_one_returns(
    forecast: Forecast, clock: Clock
) -> None:
    forecast.arrived("a", "alone", clip())
    for name in ("first", "second", "third"):
        forecast.arrived("a", name, clip())
    clock.now += SHORT_S
    forecast.returned("a", "alone")
    pair = 4 + 2 * 0.5
    forecast.returned("a", "first")

    assert forecast.seconds("a", clip(300)) == pytest.approx(pair + SHORT_S + LONG_S)

    clock.now += pair
    forecast.returned("a", "second")
    clock.now += 1

    assert forecast.seconds("a", clip(300)) == pytest.approx(SHORT_S - 1 + LONG_S)

    forecast.returned("a", "third")
    assert forecast.held("a") == 0


def test_requests_of_others_count_like_the_average_of_ours(forecast: Forecast) -> None:
    forecast.arrived("b", "ours", clip())
    share = 4 / 2 + 0.5

    assert forecast.seconds("a", clip(), others=3) == pytest.approx(SHORT_S + 3 * share)


def test_a_sender_that_has_sent_nothing_takes_others_requests_to_be_like_its_own(
    forecast: Forecast,
) -> None:
    assert forecast.seconds("a", clip(), others=1) > forecast.seconds("b", clip())


def test_what_the_replica_says_holds_if_it_is_more_than_what_is_known(forecast: Forecast) -> None:
    forecast.arrived("a", "ours", clip(300))

    assert forecast.seconds("a", clip(), busy=10) == pytest.approx(LONG_S + SHORT_S)
    assert forecast.seconds("a", clip(), busy=100) == pytest.approx(100 + SHORT_S)
    assert forecast.seconds("b", clip(), busy=100) == pytest.approx(100 + SHORT_S)


def test_what_is_on_its_way_counts_as_if_it_were_there(forecast: Forecast) -> None:
    forecast.chosen("a", "long", clip(300))

    assert forecast.seconds("a", clip()) == pytest.approx(LONG_S + SHORT_S)
    assert forecast.seconds("b", clip()) == pytest.approx(SHORT_S)

    forecast.arrived("b", "long", clip(300))

    assert forecast.seconds("a", clip()) == pytest.approx(SHORT_S), "another one took it"
    assert forecast.seconds("b", clip()) == pytest.approx(LONG_S + SHORT_S)


def test_what_is_chosen_for_again_leaves_no_trace(forecast: Forecast) -> None:
    forecast.chosen("a", "long", clip(300))
    forecast.chosen("a", "long", clip(300))

    assert forecast.held("a") == 1

    forecast.chosen("b", "long", clip(300))
    assert forecast.held("a") == 0

    forecast.returned("a", "long")
    assert forecast.held("b") == 1, "what the first said of it came late"


def test_what_is_refused_leaves_no_trace(forecast: Forecast) -> None:
    forecast.chosen("a", "refused", clip())
    forecast.refused("elsewhere", "refused")
    assert forecast.held("a") == 1

    forecast.refused("a", "refused")
    assert forecast.held("a") == 0

    forecast.arrived("a", "taken", clip())
    forecast.refused("a", "taken")
    assert forecast.held("a") == 1, "too late to refuse it"


def test_what_never_arrives_is_forgotten(forecast: Forecast, clock: Clock) -> None:
    forecast.chosen("a", "cancelled", clip())
    forecast.chosen("a", "taken", clip())
    forecast.arrived("a", "taken", clip())

    clock.now += PATIENCE_S - 0.1
    forecast.chosen("a", "on its way", clip())
    forecast.forget_lost()

    assert forecast.held("a") == 3

    clock.now += 0.1
    forecast.forget_lost()
    assert forecast.held("a") == 2

    forecast.returned("elsewhere", "unheard of")


def test_replicas_that_are_gone_are_forgotten(forecast: Forecast, clock: Clock) -> None:
    forecast.arrived("a", "one", clip())
    forecast.keep(["b"])
    forecast.chosen("b", "two", clip())
    forecast.keep([])
    clock.now += PATIENCE_S
    forecast.forget_lost()
    forecast.returned("a", "one")

    assert forecast.held("a") == forecast.held("b") == 0


def test_estimates_follow_what_batches_take(forecast: Forecast) -> None:
    forecast.scale_to(3)
    assert forecast.seconds("b", clip()) == pytest.approx(3 * SHORT_S)


def test_rows_that_share_the_batch_are_not_waited_for(forecast: Forecast) -> None:
    forecast.arrived("a", "running", clip(300))
    forecast.arrived("a", "waiting", clip())
    share = 4 / 2 + 0.5
    said = LONG_S + share

    assert forecast.seconds("a", clip(), busy=said) == pytest.approx(LONG_S + 4 + 2 * 0.5)


@pytest.fixture
def changing(clock: Clock) -> Forecast:
    """As ``forecast``, and other adapters take 2 s."""
    cost = COST.model_copy(update={"adapters": 2.0})
    return Forecast(Estimator(cost, max_rows=2, max_seconds=600), clock)


def test_a_replica_with_other_adapters_takes_longer(changing: Forecast) -> None:
    changing.arrived("a", "first", clip(loras=WARM))
    changing.returned("a", "first")

    assert changing.seconds("a", clip(loras=WARM)) == pytest.approx(SHORT_S)
    for other in (clip(), clip(loras=DARK)):
        assert changing.seconds("a", other) == pytest.approx(2 + SHORT_S)
    assert changing.seconds("new", clip()) == pytest.approx(SHORT_S)
    assert changing.seconds("new", clip(loras=WARM)) == pytest.approx(2 + SHORT_S)


def test_each_change_of_adapters_before_a_request_is_waited_for(changing: Forecast) -> None:
    changing.arrived("a", "running", clip(loras=WARM))
    changing.arrived("a", "waiting", clip(loras=DARK))

    found = changing.seconds("a", clip(loras=WARM))

    assert found == pytest.approx(SHORT_S + 2 + SHORT_S + 2 + SHORT_S)


def test_adapters_that_the_replica_told_of_hold(changing: Forecast) -> None:
    changing.arrived("a", "first", clip(loras=WARM))
    changing.returned("a", "first")

    assert changing.seconds("a", clip(loras=DARK), loras=DARK) == pytest.approx(SHORT_S)
    assert changing.seconds("a", clip(loras=WARM), loras=()) == pytest.approx(2 + SHORT_S)
