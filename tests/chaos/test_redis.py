"""Redis and two nodes, of which the head does none of the work."""

import time
from pathlib import Path

import pytest

from bench.databases import RedisServer, redis_server
from tests.support.fault_proxy import FaultProxy

from .cluster import ServiceCluster
from .conftest import Deploy
from .rows import BookedService, Row, attempts

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

REDIS_AWAY_S = 3.0
REDIS_SILENT_S = 15.0


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

    assert attempts(outcomes) == {1}


def test_a_node_is_lost(service: BookedService, cluster: ServiceCluster) -> None:
    row = Row(service, "worker node's raylet")

    for _ in row.moments(2):
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


def test_redis_falls_silent_and_fails_over(deploy: Deploy, tmp_path: Path) -> None:
    """Last: it deploys on other servers."""
    with redis_server() as first, redis_server() as second, FaultProxy(first.port) as proxy:
        url = first.url().replace(str(first.port), str(proxy.port))
        service = deploy(tmp_path, bare_head=True, jobs_url=url)
        second.follow(first)
        row = Row(service, "Redis, silent for 15 s, then failing over to another server")

        faults = iter((lambda: be_silent(proxy), lambda: fail_over(first, second, proxy)))
        for _ in row.moments(2):
            next(faults)()

        outcomes = row.finish()
        row.tidy()

    assert attempts(outcomes) == {1}


def be_silent(proxy: FaultProxy) -> None:
    proxy.fall_silent()
    time.sleep(REDIS_SILENT_S)
    proxy.pass_on()


def fail_over(first: RedisServer, second: RedisServer, proxy: FaultProxy) -> None:
    """Connections stay, and lead to a server that is a replica now."""
    second.take_over_from(first)
    proxy.lead_new_connections_to(second.port)
