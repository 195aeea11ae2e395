"""Two thousand clients wait for jobs while others run, and all hear of their end."""

from pathlib import Path

import pytest

from .conftest import Deploy
from .load import Client
from .rows import Row, attempts
from .waiters import Waiters

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

WAITERS = 2000
WAITED_FOR = 20
ONE_REPLICA = {"max_replicas": 1}
NO_ROOM = {"cpu": 1000, "max_replicas": 1}


def test_two_thousand_wait(deploy: Deploy, tmp_path: Path) -> None:
    # What a load yields is learnt first: jobs of a model that fits nowhere are soon refused.
    deploy(tmp_path, bare_head=True)
    service = deploy(
        tmp_path,
        bare_head=True,  # as the cluster is since the module before
        max_waiting_requests=WAITERS,  # whichever of two replicas they come to
        max_open_per_client=WAITERS,
        variants={"small-sfx": ONE_REPLICA, "small-music": ONE_REPLICA, "medium": NO_ROOM},
    )
    job_ids = [service.submit(model="medium") for _ in range(WAITED_FOR)]
    waiters = Waiters(service.base_url, job_ids, WAITERS)
    waiters.until_all_wait()
    row = Row(service, "nobody; 2,000 waiters, all told at once")

    for _ in row.moments(1):
        client = Client(service.base_url)
        for job_id in job_ids:
            client.cancel(job_id)

    outcomes = row.finish()
    row.tidy()

    assert waiters.result() == {("cancelled",): WAITERS}
    assert attempts(outcomes) == {1}
