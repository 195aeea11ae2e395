"""Redis and two nodes, of which the head does none of the work."""

import time

import pytest

from bench.databases import RedisServer

from .cluster import ServiceCluster
from .conftest import Deploy
from .rows import BookedService, Row

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

REDIS_AWAY_S = 3.0


@pytest.fixture(scope="module")
def service(
    deploy: Deploy, redis_db: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> BookedService:
    folder = tmp_path_factory.mktemp("redis")
    return deploy(folder, bare_head=True, jobs_url=redis_db.url())


def test_redis_is_killed(service: BookedService, redis_db: RedisServer) -> None:
    row = Row(service, "Redis, away for 3 s")

    for _ in row.moments(2):
        redis_db.kill()
        time.sleep(REDIS_AWAY_S)
        redis_db.start()

    outcomes = row.finish()
    row.tidy()

    assert {o.view["attempts"] for o in outcomes if o.view and o.succeeded} == {1}


def test_a_node_is_lost(service: BookedService, cluster: ServiceCluster) -> None:
    row = Row(service, "worker node's raylet")

    for _ in row.moments(3):
        cluster.kill_worker_raylet()

    row.finish()
    row.tidy()


def test_the_cluster_is_killed_and_started_again_on_redis(
    service: BookedService, cluster: ServiceCluster
) -> None:
    row = Row(service, "whole cluster, Redis")

    for _ in row.moments(1):
        cluster.kill()
        cluster.restart()

    row.finish()
    row.tidy()
