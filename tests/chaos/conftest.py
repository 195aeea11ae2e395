"""One Ray cluster for the chaos suite, and the application on it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["RAY_AUTH_MODE"] = "disabled"

import ray
from ray import serve

from sa_ray.app import build
from sa_ray.local import free_port
from tests.contract.conftest import postgresql_server, redis_db

from .load import Chaos

__all__ = ["postgresql_server", "redis_db"]

rows: list[str] = []


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    ray.init(
        address="local",
        num_cpus=6,
        namespace="serve",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()
    print("\n| victim | times | jobs | lost | duplicated | attempts over 1 | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


@pytest.fixture(scope="session")
def deploy(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Chaos]:
    """Deploy on the job store of the given URL; a ``{folder}`` in it is an empty folder."""

    def run(jobs_url: str) -> Chaos:
        folder: Path = tmp_path_factory.mktemp("chaos")
        settings = {
            "jobs_url": jobs_url.format(folder=folder),
            "output_dir": f"{folder}/outputs",
            "engine": "procedural",
            "preload_models": "small-sfx,small-music",
            "ingress_replicas": 2,
        }
        serve.run(build(settings), name="sa-ray", route_prefix="/")
        return Chaos(base_url, folder / "outputs", rows)

    return run
