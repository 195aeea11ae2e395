"""Which of several replicas a request comes to."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.support.service import SLOW

from .conftest import MODEL, Deploy, replicas

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

LONG = SLOW | {"duration": 380}
SHORT = {"model": MODEL, "prompt": "a bell", "duration": 1, "steps": 2}


def test_a_long_job_holds_up_none_of_the_short_clips_behind_it(deploy: Deploy) -> None:
    service = deploy({"min_replicas": 2, "max_replicas": 2})
    service.until(lambda: replicas(service) == 2)
    long = service.submit(**LONG)
    service.wait_for(long, "running")
    service.until(lambda: service.job(long)["progress"] > 0)

    jobs = [service.submit(**SHORT, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: service.generate(**SHORT), range(6)))
    answered_at = datetime.now(UTC)
    views = [service.wait_for(job, "succeeded") for job in (*jobs, long)]

    *ended, last = [datetime.fromisoformat(view["completed_at"]) for view in views]
    assert max(*ended, answered_at) < last
    assert {answer.status_code for answer in answers} == {200}
    assert {view["attempts"] for view in views} == {1}
