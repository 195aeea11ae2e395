"""Databases that an earlier release wrote, opened by this one."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from bench.databases import PostgresqlServer
from sa_ray.contracts import Job
from sa_ray.jobs import JobStore, lifecycle, open_job_store
from sa_ray.jobs.stores.sql_store.schema import MIGRATIONS

V1 = Path(__file__).parent.parent / "data" / "jobs_v1.sql"


def write_sqlite(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        connection.executescript(V1.read_text())
    connection.close()
    return f"sqlite:///{path}"


def copy_to_postgresql(path: Path, url: str) -> str:
    """The same rows under the first schema that PostgreSQL had."""
    source = sqlite3.connect(path)
    rows = source.execute("SELECT * FROM jobs").fetchall()
    source.close()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        connection.exec_driver_sql("INSERT INTO schema_version VALUES (1)")
        for statement in MIGRATIONS[0]:
            assert isinstance(statement, str)
            connection.exec_driver_sql(statement)
        for row in rows:
            connection.exec_driver_sql(f"INSERT INTO jobs VALUES ({', '.join(['%s'] * 9)})", row)  # noqa: S608
    engine.dispose()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql_server: PostgresqlServer
) -> Iterator[JobStore]:
    url = write_sqlite(tmp_path / "jobs.db")
    if request.param == "postgresql":
        name = f"migrate-{tmp_path.name}"
        url = copy_to_postgresql(tmp_path / "jobs.db", postgresql_server.create_database(name))
    opened = open_job_store(url)
    yield opened
    opened.close()


def stored(store: JobStore, number: int) -> Job:
    found = store.get(f"{number:032x}")
    assert found is not None
    return found


def test_jobs_of_the_first_schema_live_on(store: JobStore) -> None:
    jobs = [stored(store, number) for number in range(7)]

    assert [job.status for job in jobs] == [
        "succeeded", "failed", "cancelled", "running", "cancelled", "queued", "queued",
    ]  # fmt: skip
    assert {job.priority for job in jobs} == {"normal"}
    assert jobs[1].error is not None
    assert jobs[1].error.message == "It \"failed\" at 100%: {':x'} \N{CLOUD}"
    assert [job.request.prompt for job in jobs] == [f"rain \N{CLOUD} {n}" for n in range(7)]


def test_the_queue_keeps_its_order(store: JobStore) -> None:
    assert store.queue("small-sfx", limit=10) == [f"{5:032x}", f"{6:032x}"]
    assert store.position(stored(store, 6)) == 2

    taken = store.claim(
        "small-sfx",
        now=2000.0,
        limit=10,
        take=lambda job: lifecycle.lease(job, "w2", 2000.0, 30.0),
    )

    assert [job.id for job in taken] == [f"{5:032x}", f"{6:032x}"]


def test_running_jobs_still_expire(store: JobStore) -> None:
    [running] = store.expired(now=1130.0, limit=10)

    assert running == stored(store, 3)
    assert store.replace(lifecycle.expire(running, 1130.0))


def test_ended_jobs_are_subject_to_retention(store: JobStore) -> None:
    ended = store.ended(before=9999.0, limit=10)

    assert ended == [stored(store, number) for number in range(3)] + [stored(store, 4)]
    assert store.ended(before=1102.2, limit=10) == ended[:2]


def test_objects_left_by_jobs_without_a_result_are_cleaned_up(store: JobStore) -> None:
    unclean = store.unclean(now=1.0, limit=10)
    assert sorted(job.id for job in unclean) == [f"{1:032x}", f"{2:032x}"]

    for job in unclean:
        assert store.replace(lifecycle.cleaned(job, 9999.0))
    assert store.unclean(now=9999.0, limit=10) == []
