"""The stores that the contract suites run against."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.databases import PostgresqlServer, RedisServer
from sa_ray.jobs import JobStore, open_job_store


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty job store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/jobs.db"
    if request.param == "postgresql":
        server: PostgresqlServer = request.getfixturevalue("postgresql_server")
        return server.create_database(f"jobs-{uuid.uuid4().hex[:8]}")
    redis: RedisServer = request.getfixturevalue("redis_db")
    with redis.client() as client:
        client.flushall()
    return redis.url()


@pytest.fixture
def job_store(store_url: str) -> Iterator[JobStore]:
    store = open_job_store(store_url)
    yield store
    store.close()
