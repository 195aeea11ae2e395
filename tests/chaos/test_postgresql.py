"""PostgreSQL and S3: outages of both, and the whole cluster killed on them."""

import time
from collections.abc import Iterator

import pytest

from bench.databases import PostgresqlServer
from tests.support.fault_proxy import FaultProxy
from tests.support.object_stores import s3_settings
from tests.support.s3_server import S3Server

from .cluster import ServiceCluster
from .conftest import Deploy
from .rows import BookedService, Row, attempts

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

S3_DOWN_S = 20.0
S3_BROKEN_S = 8.0
S3_SLOW_S = 8.0
S3_DELAY_S = 1.0
DATABASE_AWAY_S = 3.0
DATABASE_SILENT_S = 20.0
DATABASE_READ_ONLY_S = 8.0


@pytest.fixture(scope="module")
def s3(s3_server: S3Server) -> Iterator[FaultProxy]:
    """What stands between the service and its bucket."""
    with FaultProxy(s3_server.ports["s3.port"]) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def database(postgresql_server: PostgresqlServer) -> Iterator[FaultProxy]:
    """What stands between the service and PostgreSQL."""
    with FaultProxy(postgresql_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def service(
    deploy: Deploy,
    postgresql_server: PostgresqlServer,
    database: FaultProxy,
    s3_server: S3Server,
    s3: FaultProxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> BookedService:
    url = postgresql_server.create_database("chaos")
    url = url.replace(str(postgresql_server.port), str(database.port))
    settings = s3_settings(s3_server, storage_endpoint_url=s3.url)
    return deploy(tmp_path_factory.mktemp("postgresql"), jobs_url=url, **settings)


def test_s3_is_down(service: BookedService, s3: FaultProxy) -> None:
    row = Row(service, "S3 down for 20 s")

    for _ in row.moments(1):
        s3.refuse()
        time.sleep(S3_DOWN_S)
        s3.pass_on()

    outcomes = row.finish()
    row.tidy()

    assert attempts(outcomes) == {1}


def test_s3_answers_500_and_slowly(service: BookedService, s3: FaultProxy) -> None:
    row = Row(service, "S3 answers 500 for 8 s, then slowly (1 s a request) for 8 s")

    for _ in row.moments(1):
        s3.answer_500()
        time.sleep(S3_BROKEN_S)
        s3.pass_on(delay_s=S3_DELAY_S)
        time.sleep(S3_SLOW_S)
        s3.pass_on()

    outcomes = row.finish()
    row.tidy()

    assert attempts(outcomes) == {1}


def test_postgresql_is_killed(service: BookedService, postgresql_server: PostgresqlServer) -> None:
    row = Row(service, "PostgreSQL, away for 3 s")

    for _ in row.moments(2):
        postgresql_server.kill()
        time.sleep(DATABASE_AWAY_S)
        postgresql_server.start()

    outcomes = row.finish()
    row.tidy()

    assert attempts(outcomes) == {1}


def test_postgresql_falls_silent(service: BookedService, database: FaultProxy) -> None:
    row = Row(service, "PostgreSQL, silent for 20 s")

    for _ in row.moments(1):
        database.fall_silent()
        time.sleep(DATABASE_SILENT_S)
        database.pass_on()

    outcomes = row.finish()
    row.tidy()

    assert attempts(outcomes) == {1}


def test_postgresql_is_read_only(
    service: BookedService, postgresql_server: PostgresqlServer
) -> None:
    row = Row(service, "PostgreSQL, read-only for 8 s")

    for _ in row.moments(1):
        with postgresql_server.read_only():
            time.sleep(DATABASE_READ_ONLY_S)

    outcomes = row.finish()
    row.tidy()

    assert attempts(outcomes) == {1}


def test_the_cluster_is_killed_and_started_again_on_postgresql(
    service: BookedService, cluster: ServiceCluster
) -> None:
    row = Row(service, "whole cluster, PostgreSQL")

    for _ in row.moments(1):
        cluster.kill()
        cluster.restart()

    row.finish()
    row.tidy()
