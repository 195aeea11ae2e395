"""A client of PostgreSQL that dies while it holds locks, behind something that outlives it."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection

from bench.databases import PostgresqlServer
from sa_ray.jobs import lifecycle, open_job_store
from sa_ray.jobs.stores.sql_store.engine import create_job_engine
from tests.support.jobs import insert, resolved

pytestmark = pytest.mark.chaos

PATIENCE_S = 60


@pytest.fixture(scope="module")
def url(postgresql_server: PostgresqlServer) -> str:
    return postgresql_server.create_database("dead_client")


@pytest.fixture
def dead(url: str) -> Iterator[Connection]:
    """A connection of ours that nobody uses any more, and nobody closes."""
    engine = create_job_engine(url)
    connection = engine.connect()
    yield connection
    connection.invalidate()
    engine.dispose()


def test_the_locks_of_a_client_that_died_within_a_pipeline_are_freed(
    url: str, dead: Connection
) -> None:
    store = open_job_store(url)
    job = lifecycle.new_job("0" * 32, resolved(), 1000.0)
    insert(store, job)
    locking = "SELECT FROM jobs FOR UPDATE"
    dead.exec_driver_sql(locking)
    # What follows is never sent: the server waits, and does not count the session as idle.
    driver = dead.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    driver.pgconn.enter_pipeline_mode()
    driver.pgconn.send_flush_request()
    driver.pgconn.flush()

    with psycopg.connect(url, options=f"-c lock_timeout={PATIENCE_S}s") as other:
        other.execute(locking)

    taken = store.claim("small-sfx", "w", now=2000.0, limit=5, take=lambda job: job)
    assert [one.id for one in taken] == [job.id]
    store.close()
