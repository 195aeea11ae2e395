"""Which of several replicas a request comes to."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import pytest

from tests.support.service import SLOW, Service, server_timing

from .conftest import MODEL, Deploy, replicas

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

LONG = SLOW | {"duration": 380}
ROUNDS = 3
"""Of two idle replicas, the short clip that comes first takes either."""

SHORT = {"model": MODEL, "prompt": "a bell", "duration": 1, "steps": 2}
USUAL = LONG | {"duration": 5}
"""As costly by the second as the long one: others would have it estimated as shorter than it is.
Two full batches of them take less than the half second from which on a wait counts as long, on
a machine on which the long one takes two seconds."""


def is_at_work(service: Service, job_id: str) -> bool:
    """Whether a replica has the job, which is running while it is on its way, too."""
    return bool(service.job(job_id)["progress"] > 0)


def test_a_long_job_holds_up_none_of_the_short_clips_behind_it(deploy: Deploy) -> None:
    service = deploy({"min_replicas": 2, "max_replicas": 2})
    service.until(lambda: replicas(service) == 2)
    long = service.submit(**LONG)
    service.wait_for(long, "running")
    service.until(partial(is_at_work, service, long))

    jobs = [service.submit(**SHORT, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: service.generate(**SHORT), range(6)))
    answered_at = datetime.now(UTC)
    views = [service.wait_for(job, "succeeded") for job in (*jobs, long)]

    *ended, last = [datetime.fromisoformat(view["completed_at"]) for view in views]
    assert max(*ended, answered_at) < last
    assert {answer.status_code for answer in answers} == {200}
    assert {view["attempts"] for view in views} == {1}


def test_short_clips_do_not_wait_for_a_long_one_that_their_router_has_not_heard_of(
    deploy: Deploy,
) -> None:
    service = deploy({"min_replicas": 2, "max_replicas": 2})
    service.until(lambda: replicas(service) == 2)

    with ThreadPoolExecutor(2) as pool:
        # The estimates are moving averages, and other tests' clips may have cost less.
        warm = list(pool.map(lambda _: service.generate(**USUAL), range(64)))
    assert {answer.status_code for answer in warm} == {200}

    for _ in range(ROUNDS):
        with ThreadPoolExecutor(8) as pool:
            # So that the router knows both replicas, and takes them for idle.
            list(pool.map(lambda _: service.generate(**USUAL), range(16)))
        long = service.submit(**LONG)
        service.until(partial(is_at_work, service, long))
        answers = [service.generate(**USUAL, seed=seed) for seed in range(6)]

        made = service.wait_for(long, "succeeded")["timings"]["generation_seconds"]
        waits = [server_timing(answer)["queue"] / 1000 for answer in answers]
        assert max(waits) < made / 2
