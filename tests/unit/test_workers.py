"""Which workers are taken for dead."""

from sa_ray.jobs.workers import Workers


def looks(workers: Workers, heartbeats: dict[str, float], times: int) -> list[list[str]]:
    return [workers.look(heartbeats) for _ in range(times)]


def test_a_worker_is_dead_after_so_many_looks_without_a_sign_of_life() -> None:
    workers = Workers(patience=3)

    # The first look only shows that the worker is known.
    assert looks(workers, {"w1": 5.0}, 4) == [[], [], [], ["w1"]]


def test_any_other_heartbeat_is_a_sign_of_life() -> None:
    workers = Workers(patience=3)
    looks(workers, {"w1": 5.0}, 3)

    # Another service wrote it; the clocks of the two need not agree.
    assert looks(workers, {"w1": 4.0}, 3) == [[], [], []]
    assert looks(workers, {"w1": 4.0}, 1) == [["w1"]]


def test_a_call_is_a_sign_of_life_even_if_the_store_does_not_take_it() -> None:
    workers = Workers(patience=3)
    looks(workers, {"w1": 5.0}, 3)

    with workers.calling("w1"):
        pass

    assert looks(workers, {"w1": 5.0}, 2) == [[], []]


def test_a_worker_whose_call_is_under_way_is_not_dead_however_long_it_takes() -> None:
    workers = Workers(patience=3)

    with workers.calling("w1"):
        assert looks(workers, {"w1": 5.0}, 10) == [[]] * 10
    assert looks(workers, {"w1": 5.0}, 2) == [[], []]


def test_a_worker_that_calls_after_it_was_found_dead_is_not() -> None:
    workers = Workers(patience=1)
    looks(workers, {"w1": 5.0}, 2)
    assert workers.is_dead("w1")

    with workers.calling("w1"):
        assert not workers.is_dead("w1")


def test_a_judge_that_comes_late_waits_as_many_looks() -> None:
    """Looks are counted, so a process that was stopped for an hour sees one silent look."""
    workers = Workers(patience=3)
    looks(workers, {"w1": 5.0}, 2)

    assert looks(workers, {"w1": 5.0}, 1) == [[]]
