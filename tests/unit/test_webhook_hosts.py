"""How webhook calls are shared out among hosts."""

from sa_ray.jobs.webhook_hosts import (
    FIRST_LIMIT,
    KNOWN_HOSTS,
    LATEST_IN_SILENCE_S,
    LATEST_S,
    MOST_CALLS,
    SOONEST_S,
    STRANGERS_CALLS,
    WebhookHosts,
)


def begun(hosts: WebhookHosts, host: str, now: float = 0.0) -> int:
    """Begin calls to ``host`` until one has to wait, and count them."""
    count = 0
    while hosts.begin(host, now) is None:
        count += 1
    return count


def test_a_host_that_answers_takes_more_calls_at_once() -> None:
    hosts = WebhookHosts()

    assert begun(hosts, "a") == FIRST_LIMIT
    for _ in range(FIRST_LIMIT):
        hosts.end("a", 0.1, 0.1, answered=True)

    assert begun(hosts, "a") == MOST_CALLS
    assert begun(hosts, "b") == FIRST_LIMIT


def test_a_silent_host_is_called_once_at_a_time_until_it_answers() -> None:
    hosts = WebhookHosts()
    begun(hosts, "a")
    for _ in range(FIRST_LIMIT):
        hosts.end("a", 10.0, 10.0, answered=False)

    assert begun(hosts, "a", 10.0) == 1

    hosts.end("a", 20.0, 0.1, answered=True)
    assert begun(hosts, "a", 20.0) == 2


def test_calls_beyond_the_limit_are_spread_over_the_time_that_they_take() -> None:
    hosts = WebhookHosts()
    begun(hosts, "a")
    for _ in range(20):
        hosts.begin("a", 0.0)
    for _ in range(FIRST_LIMIT):
        hosts.end("a", 10.0, 10.0, answered=False)
    begun(hosts, "a", 100.0)

    delays = [hosts.begin("a", 100.0) or 0.0 for _ in range(1000)]

    assert delays[1] - delays[0] > 5.0
    assert min(delays) >= SOONEST_S
    assert LATEST_S < max(delays) <= LATEST_IN_SILENCE_S


def test_calls_to_a_host_that_answers_are_not_put_off_for_long() -> None:
    hosts = WebhookHosts()
    begun(hosts, "a")

    delays = [hosts.begin("a", 0.0) or 0.0 for _ in range(100_000)]

    assert min(delays) >= SOONEST_S
    assert max(delays) <= LATEST_S


def test_after_its_silence_a_host_is_called_at_once() -> None:
    hosts = WebhookHosts()
    hosts.begin("a", 0.0)
    hosts.end("a", 10.0, 10.0, answered=False)
    begun(hosts, "a", 10.0)
    for _ in range(100):
        hosts.begin("a", 10.0)

    hosts.end("a", 20.0, 0.1, answered=True)

    assert [hosts.begin("a", 20.0) for _ in range(3)] == [None, None, SOONEST_S]


def test_many_hosts_are_not_remembered_for_ever() -> None:
    hosts = WebhookHosts()
    hosts.begin("silent", 0.0)
    hosts.end("silent", 1.0, 1.0, answered=False)

    for number in range(KNOWN_HOSTS):
        hosts.begin(f"host-{number}", 0.0)
        hosts.end(f"host-{number}", 0.1, 0.1, answered=True)

    assert begun(hosts, "silent") == FIRST_LIMIT


def test_any_number_of_silent_hosts_leaves_room_for_those_that_answer() -> None:
    hosts = WebhookHosts()
    hosts.begin("good", 0.0)
    hosts.end("good", 0.1, 0.1, answered=True)

    held = sum(begun(hosts, f"silent-{number}") for number in range(STRANGERS_CALLS))

    assert held == STRANGERS_CALLS
    assert begun(hosts, "new") == 0
    assert begun(hosts, "good") == 2 * FIRST_LIMIT


def test_room_that_silent_hosts_give_back_is_there_again() -> None:
    hosts = WebhookHosts()
    names = [f"silent-{number}" for number in range(STRANGERS_CALLS // FIRST_LIMIT)]

    for answers in (
        [False] * FIRST_LIMIT,
        [True, False] * (FIRST_LIMIT // 2),
        [True] * FIRST_LIMIT,
    ):
        for name in names:
            running = begun(hosts, name)
            for answered in answers[:running]:
                hosts.end(name, 10.0, 0.1, answered=answered)

    assert sum(begun(hosts, f"new-{number}") for number in range(1000)) == STRANGERS_CALLS
