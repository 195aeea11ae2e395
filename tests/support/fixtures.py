"""Fixtures of more than one suite. The top ``conftest.py`` registers them."""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from bench.databases import PostgresqlServer, RedisServer, postgresql, redis_server
from sa_ray.telemetry import close_tracing, configure_tracing
from tests.support.otlp_collector import Collector, collecting
from tests.support.s3_server import S3Server, seaweedfs
from tests.support.secret_settings import SecretFiles

if TYPE_CHECKING:
    from tests.support.deployment import Deploy


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server. A test that stops it starts it again."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL. A test that kills it starts it again."""
    with postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def redis_db() -> Iterator[RedisServer]:
    """A real Redis, another for each module, which may empty it. A test that kills it starts it
    again."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def secret_files(tmp_path_factory: pytest.TempPathFactory) -> SecretFiles:
    """The secrets of what is deployed on the cluster of ``base_url``."""
    return SecretFiles(tmp_path_factory.mktemp("secrets"))


@pytest.fixture(scope="session")
def base_url(secret_files: SecretFiles) -> Iterator[str]:
    """A Ray cluster with Serve's HTTP proxy on it; no application yet."""
    # Not above: on import, this process and its children do without Ray's token.
    from tests.support.ray_cluster import one_node

    with one_node(num_cpus=4, **secret_files.variables) as url:
        yield url


@pytest.fixture(scope="session")
def deploy(
    base_url: str, secret_files: SecretFiles, tmp_path_factory: pytest.TempPathFactory
) -> "Deploy":
    """Deploys the application on that cluster."""
    from tests.support.deployment import deployer

    return deployer(base_url, secret_files, tmp_path_factory)


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector to which this process sends its spans, once ``close_tracing`` is called."""
    with collecting() as opened:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", opened.endpoint)
        configure_tracing()
        yield opened
        await close_tracing()
