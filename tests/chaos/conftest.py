"""One Ray cluster for the chaos suite, and the application on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray import serve

from sa_ray.app import build
from tests.contract.conftest import postgresql_server, redis_db
from tests.ray_cluster import one_node

from .load import Chaos

__all__ = ["postgresql_server", "redis_db"]

rows: list[str] = []


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    with one_node(num_cpus=6) as url:
        yield url
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
