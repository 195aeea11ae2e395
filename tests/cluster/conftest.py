"""A cluster of several nodes on this machine, and the application on it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.operators_environment import TIMEOUTS

# As KubeRay has it: what is not lost here is not lost there.
os.environ |= TIMEOUTS

from ray import serve
from ray._private.node import Node
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from sa_ray.local import IMPORT_PATH, free_port
from tests.support.order import arrange
from tests.support.ray_cluster import several_nodes
from tests.support.secret_settings import SecretFiles
from tests.support.service import Service, local_settings

from .application import Application

AddNode = Callable[..., Node]

Deploy = Callable[..., Service]

MODEL = "medium"
"""The model whose autoscaling ``deploy`` takes, unless it is told another deployment."""

HEALTH_CHECKS = {
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 5,
}
"""A silent node is given up after 20 s; Ray's defaults take 65 s."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the test that counts come first, on a cluster of which nothing is counted yet, and the
    tests of one node last: tests/serve goes on with that node."""
    arrange(items, __file__, lambda names: ("uncounted" not in names) + ("deploy" in names))


@pytest.fixture(scope="session")
def table() -> Iterator[list[str]]:
    """The rows of docs/evidence.md, as measured."""
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
def uncounted(cluster: Cluster) -> Cluster:
    """The cluster, for a test that has to be the first on it."""
    return cluster


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


@pytest.fixture(scope="module")
def deploy(
    base_url: str, secret_files: SecretFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deploy]:
    """Deploy on one node, as ``serve deploy`` does, with an operator's ``autoscaling_config`` of
    a deployment, and the given settings. All deploys of a module share one folder."""
    folder = tmp_path_factory.mktemp("service")

    def run(autoscaling: dict[str, Any], deployment: str = MODEL, **args: Any) -> Service:
        settings = {**local_settings(folder), "preload_models": "", **args}
        application = {
            "name": "sa-ray",
            "import_path": IMPORT_PATH,
            "args": secret_files.args(settings),
            "deployments": [{"name": deployment, "autoscaling_config": autoscaling}],
        }
        client = _get_global_client()
        client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
        service = Service(base_url, settings)
        service.wait_until_started()
        return service

    yield run
    # While the ingress of one module is there, HAProxy may send to it what is for the next.
    serve.delete("sa-ray")


def replicas(service: Service) -> int:
    """How many of ``MODEL`` serve."""
    return service.health().variants[MODEL].replicas
