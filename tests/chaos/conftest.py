"""The cluster of the chaos suite, the applications on it, and the table it prints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import local_settings

from .cluster import ServiceCluster
from .rows import HEADER, BookedService, Books

BOOKS = Books()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceCluster]:
    cluster = ServiceCluster(tmp_path_factory.mktemp("cluster") / "log")
    yield cluster
    cluster.kill()


def one_replica_each() -> dict[str, Any]:
    """Settings for two models, each with one replica from the start."""
    one_replica = {"max_replicas": 1}
    return {
        "preload_models": "small-sfx,small-music",
        "variants": {"small-sfx": one_replica, "small-music": one_replica},
    }


class Deploy:
    """Deploys the application, and gives it as the tests see it."""

    def __init__(self, cluster: ServiceCluster) -> None:
        self._cluster = cluster

    def __call__(
        self,
        folder: Path,
        *,
        bare_head: bool = False,
        breaking: Path | None = None,
        **settings: Any,
    ) -> BookedService:
        """On a SQLite file and with objects in ``folder``, unless ``settings`` say otherwise."""
        settings = {
            **local_settings(folder),
            "ingress_replicas": 2,
            **one_replica_each(),
            **settings,
        }
        self._cluster.deploy(settings, bare_head=bare_head, breaking=breaking)
        service = BookedService(self._cluster.base_url, settings, BOOKS)
        service.learn()
        return service


@pytest.fixture(scope="session")
def deploy(cluster: ServiceCluster) -> Deploy:
    return Deploy(cluster)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if BOOKS.rows:
        terminalreporter.write_line("\n".join(["", HEADER, *BOOKS.rows]))
