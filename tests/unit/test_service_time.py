"""Since when workers have been heard without a break."""

import math

from sa_ray.jobs.service_time import AWAY_S, ServiceTime


def test_a_judge_that_starts_while_workers_are_heard_takes_it_that_they_always_were() -> None:
    service = ServiceTime()

    assert service.look({"w1": 1000.0}, 1001.0) == -math.inf
    assert service.look({"w1": 1001.0}, 1002.0) == -math.inf


def test_time_without_a_heartbeat_is_a_break() -> None:
    service = ServiceTime()
    service.look({"w1": 1000.0}, 1000.0)

    assert service.look({"w1": 1000.0}, 1000.0 + AWAY_S) == -math.inf
    assert service.look({"w1": 1000.0}, 1001.0 + AWAY_S) == 1001.0 + AWAY_S
    assert service.look({"w1": 1000.0, "w2": 5000.0}, 5001.0) == 5000.0
    assert service.look({"w2": 5050.0}, 5051.0) == 5000.0


def test_a_judge_that_starts_after_a_break_knows_of_it() -> None:
    service = ServiceTime()

    assert service.look({"w1": 1000.0}, 9000.0) == 9000.0
    assert service.look({"w1": 1000.0, "w2": 9001.0}, 9002.0) == 9001.0


def test_nobody_has_served_a_store_that_knows_no_worker() -> None:
    service = ServiceTime()

    assert service.look({}, 1000.0) == 1000.0
    assert service.look({}, 1001.0) == 1001.0
    assert service.look({"w1": 1002.0}, 1003.0) == 1002.0


def test_workers_that_are_replaced_make_no_break() -> None:
    service = ServiceTime()
    service.look({"w1": 1000.0}, 1000.0)

    assert service.look({}, 1030.0) == -math.inf
    assert service.look({"w2": 1050.0}, 1050.0) == -math.inf


def test_a_step_of_the_clock_is_a_break_and_no_reason_to_end_jobs() -> None:
    service = ServiceTime()
    service.look({"w1": 1000.0}, 1000.0)

    assert service.look({"w1": 1000.0}, 90_000.0) == 90_000.0
    assert service.look({"w1": 90_000.5}, 90_001.0) == 90_000.5


def test_a_clock_that_is_set_back_hides_no_break_and_puts_off_no_end() -> None:
    service = ServiceTime()
    service.look({"w1": 1000.0}, 1000.0)
    assert service.look({"w1": 90_000.0}, 90_000.0) == 90_000.0

    assert service.look({"gone": 90_000.0, "w1": 1010.0}, 1011.0) == 1011.0
    assert service.look({"w1": 1020.0}, 1020.0) == 1011.0
    assert service.look({"w1": 1020.0}, 1030.0 + AWAY_S) == 1030.0 + AWAY_S
    assert service.look({"w1": 5000.0}, 5000.0) == 5000.0
