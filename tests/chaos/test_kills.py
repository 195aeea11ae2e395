"""Processes are killed with SIGKILL under load, then the whole cluster."""

import pytest

from sa_ray.serving.haproxy import binary

from .cluster import ServiceCluster
from .conftest import Deploy
from .rows import BookedService, Row

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

KILLS = 2
HAPROXY = binary() or ""
VICTIMS = {
    "variant replica": "ray::ServeReplica:sa-ray:small-sfx",
    "engine's process": "sa_ray.engines.process.host",
    "ingress replica": "ray::ServeReplica:sa-ray:ingress",
    "dispatcher": "ray::ServeReplica:sa-ray:dispatcher",
    "uploader": "ray::Uploader",
    "job actor": "ray::JobActor",
    "Serve controller": "ray::ServeController",
    "HAProxy": HAPROXY,
    "manager of HAProxy": "ray::HAProxyManager",
}


@pytest.fixture(scope="module")
def service(deploy: Deploy, tmp_path_factory: pytest.TempPathFactory) -> BookedService:
    return deploy(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_process_is_killed(service: BookedService, cluster: ServiceCluster, victim: str) -> None:
    row = Row(service, victim)

    for chance in row.moments(KILLS):
        cluster.kill_process(VICTIMS[victim], chance)

    row.finish()
    row.tidy()


def test_the_cluster_is_killed_and_started_again_on_sqlite(
    service: BookedService, cluster: ServiceCluster
) -> None:
    row = Row(service, "whole cluster, SQLite")

    for _ in row.moments(1):
        cluster.kill()
        cluster.restart()

    row.finish()
    row.tidy()
