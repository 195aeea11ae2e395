"""A cluster of several nodes on this machine, and the application on it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._private.node import Node
from ray.cluster_utils import Cluster

from sa_ray.local import free_port
from tests.contract.conftest import redis_db
from tests.ray_cluster import several_nodes

from .application import Application

__all__ = ["redis_db"]

AddNode = Callable[..., Node]

HEALTH_CHECKS = {
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 5,
}
"""A silent node is given up after 20 s; Ray's defaults take 65 s."""


@pytest.fixture(scope="session")
def table() -> Iterator[list[str]]:
    """The rows of docs/operations.md, as measured."""
    rows: list[str] = []
    yield rows
    print("\n| scenario | recovery | requests | lost | slowest, s | jobs | lost | again |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs, and a node for what has to stay."""
    with several_nodes(_system_config=HEALTH_CHECKS) as cluster:
        cluster.add_node(num_cpus=4, labels={"sa-ray/role": "control"})
        yield cluster


@pytest.fixture
def add_node(cluster: Cluster) -> Iterator[AddNode]:
    """Join a node for the length of one test; its GPUs are simulated."""
    nodes: list[Node] = []

    def add(**options: Any) -> Node:
        node = cluster.add_node(**options)
        nodes.append(node)
        return node

    yield add
    for node in nodes:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


@pytest.fixture(scope="session")
def port() -> int:
    return free_port()


@pytest.fixture
def application(cluster: Cluster, port: int, tmp_path: Path) -> Callable[..., Application]:
    """The application with the given settings, not deployed yet."""

    def make(**args: Any) -> Application:
        return Application(cluster, port, tmp_path, **args)

    return make
