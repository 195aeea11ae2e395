"""The head's processes die and come back, with its state in Redis."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from bench.databases import RedisServer
from sa_ray.local import free_port
from tests.support.ray_cluster import HEAD, own_fallback, several_nodes

from .application import Application
from .load import SteadyLoad
from .nodes import kill

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

OUTAGE_ANSWERS = 40
"""Requests answered while the head is away, before it may come back."""


@pytest.fixture(scope="module")
def head(redis_db: RedisServer) -> dict[str, Any]:
    return {
        "external_addresses": [f"127.0.0.1:{redis_db.port}"] * 2,
        "num_redis_shards": 1,
        "gcs_server_port": free_port(),
        "dashboard_port": free_port(),
        "env_vars": own_fallback(),
    }


@pytest.fixture(scope="module")
def cluster(head: dict[str, Any]) -> Iterator[Cluster]:
    with several_nodes(**head) as cluster:
        cluster.add_node(num_cpus=4)
        yield cluster


@pytest.fixture(scope="module")
def app(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Application:
    folder: Path = tmp_path_factory.mktemp("head")
    app = Application(cluster, free_port(), folder, proxy_location="EveryNode")
    app.deploy({})
    app.until(lambda: set(app.proxies().values()) == {"HEALTHY"} and len(app.proxies()) == 2)
    return app


def test_the_gcs_restarts(cluster: Cluster, app: Application, table: list[str]) -> None:
    before = set(app.replicas())

    with SteadyLoad(app.service) as load:
        load.wait_for_answers()
        cluster.head_node.kill_gcs_server()
        load.wait_for_answers(OUTAGE_ANSWERS)
        cluster.head_node.start_gcs_server()
        seconds = app.wait_until_running()
        load.wait_for_answers()

    assert set(app.replicas()) == before
    table.append(load.row("the head's GCS is killed and started", f"{seconds:.1f} s"))
    load.assert_nothing_lost()


def test_the_head_is_lost_and_another_takes_its_place(
    cluster: Cluster, head: dict[str, Any], app: Application, table: list[str]
) -> None:
    before = set(app.replicas())
    [worker] = cluster.worker_nodes

    with SteadyLoad(app.service, connect=lambda: app.connect_through(worker.node_id)) as load:
        load.wait_for_answers()
        kill(cluster, cluster.head_node)
        load.wait_for_answers(OUTAGE_ANSWERS)
        cluster.add_node(**HEAD, **head)
        seconds = app.wait_until_running()
        load.wait_for_answers()
        assert set(app.replicas()) == before
        app.deploy({"small-sfx": {"user_config": {"max_batch_rows": 4}}})
        load.wait_for_answers()

    table.append(load.row("the head is lost, another takes its place", f"{seconds:.1f} s"))
    load.assert_nothing_lost()
