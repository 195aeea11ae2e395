"""One Ray cluster for the whole run, and deployments of the real graph on it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ray import serve

from sa_ray.app import build
from tests.ray_cluster import one_node

from .service import Service

Deploy = Callable[..., Service]


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    """A Ray cluster with Serve's HTTP proxy on it; no application yet."""
    with one_node(num_cpus=4) as url:
        yield url


@pytest.fixture(scope="session")
def deploy(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Deploy the application with the given settings, on an empty store unless told otherwise.

    What is already deployed with the same settings is left as it is.
    """
    deployed: list[tuple[dict[str, Any], Service]] = []

    def run(**args: Any) -> Service:
        if deployed and deployed[-1][0] == args:
            return deployed[-1][1]
        folder = tmp_path_factory.mktemp("service")
        settings = {
            "jobs_url": f"sqlite:///{folder}/jobs.db",
            "output_dir": f"{folder}/outputs",
            "engine": "procedural",
            **args,
        }
        serve.run(build(settings), name="sa-ray", route_prefix="/")
        service = Service(base_url, settings)
        service.wait_until_started()
        deployed.append((args, service))
        return service

    return run


@pytest.fixture(scope="module")
def service(deploy: Deploy) -> Service:
    """The application with its default settings."""
    return deploy()
