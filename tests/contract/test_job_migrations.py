"""Jobs that earlier releases stored, opened by this one."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from bench.databases import PostgresqlServer, RedisServer
from sa_ray.contracts import Job
from sa_ray.jobs import JobOptions, JobStore, endings, lifecycle, open_job_store
from sa_ray.jobs.stores.port import HeldLease
from sa_ray.jobs.stores.sql_store.schema import MIGRATIONS
from tests.support.jobs import insert, place_of

DATA = Path(__file__).parent.parent / "data"


def write_sqlite(path: Path, version: int) -> str:
    with sqlite3.connect(path) as connection:
        connection.executescript((DATA / f"jobs_v{version}.sql").read_text())
    connection.close()
    return f"sqlite:///{path}"


def copy_to_postgresql(path: Path, url: str, version: int) -> str:
    """The same rows under the schema that PostgreSQL had then."""
    source = sqlite3.connect(path)
    found = source.execute("SELECT * FROM jobs")
    columns = ", ".join(column[0] for column in found.description)
    rows = found.fetchall()
    source.close()
    places = ", ".join(["%s"] * len(found.description))
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        connection.exec_driver_sql(f"INSERT INTO schema_version VALUES ({version})")  # noqa: S608
        for step in MIGRATIONS[:version]:
            for statement in step:
                text = statement if isinstance(statement, str) else statement["postgresql"]
                connection.exec_driver_sql(text)
        for row in rows:
            connection.exec_driver_sql(f"INSERT INTO jobs ({columns}) VALUES ({places})", row)  # noqa: S608
    engine.dispose()
    return url


def write_redis(server: RedisServer) -> str:
    writers: dict[str, Any] = {}
    with server.client() as client:
        client.flushall()
        writers = {
            "string": client.set,
            "hash": lambda key, value: client.hset(key, mapping=value),
            "zset": lambda key, value: client.zadd(key, dict(value)),
        }
        for key, (kind, value) in json.loads((DATA / "jobs_v1.redis.json").read_text()).items():
            writers[kind](key, value)
    return server.url()


def opened(request: pytest.FixtureRequest, tmp_path: Path, version: int) -> Iterator[JobStore]:
    if request.param == "redis":
        url = write_redis(request.getfixturevalue("redis_db"))
    else:
        url = write_sqlite(tmp_path / "jobs.db", version)
    if request.param == "postgresql":
        server: PostgresqlServer = request.getfixturevalue("postgresql_server")
        database = server.create_database(f"migrate-{tmp_path.name}")
        url = copy_to_postgresql(tmp_path / "jobs.db", database, version)
    store = open_job_store(url)
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def first(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    """A store of the first schema."""
    yield from opened(request, tmp_path, 1)


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def second(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    """A store of the last release whose jobs had leases of their own."""
    yield from opened(request, tmp_path, 2)


def stored(store: JobStore, number: int) -> Job:
    found = store.get(f"{number:032x}")
    assert found is not None
    return found


def test_jobs_of_the_first_schema_live_on(first: JobStore) -> None:
    jobs = [stored(first, number) for number in range(7)]

    assert [job.status for job in jobs] == [
        "succeeded", "failed", "cancelled", "running", "cancelled", "queued", "queued",
    ]  # fmt: skip
    assert {job.priority for job in jobs} == {"normal"}
    assert jobs[1].error is not None
    assert jobs[1].error.message == "It \"failed\" at 100%: {':x'} \N{CLOUD}"
    assert [job.request.prompt for job in jobs] == [f"rain \N{CLOUD} {n}" for n in range(7)]


def test_the_queue_keeps_its_order(first: JobStore) -> None:
    assert first.queue("small-sfx", limit=10) == [f"{5:032x}", f"{6:032x}"]
    assert place_of(first, stored(first, 6)) == 2

    taken = first.claim(
        "small-sfx",
        "w2",
        now=2000.0,
        limit=10,
        take=lambda job: lifecycle.lease(job, "w2", 2000.0),
    )

    assert [job.id for job in taken] == [f"{5:032x}", f"{6:032x}"]


def test_running_jobs_are_still_held(first: JobStore) -> None:
    assert first.heartbeats() == {"w1": 0.0}
    assert first.leases("w1") == [HeldLease(f"{3:032x}", 1, None)]
    assert first.replace(lifecycle.take_back(stored(first, 3), 1, 1130.0))
    assert first.leases("w1") == []


def test_ended_jobs_are_subject_to_retention(first: JobStore) -> None:
    ended = first.ended(before=9999.0, limit=10)

    assert ended == [stored(first, number) for number in range(3)] + [stored(first, 4)]
    assert first.ended(before=1102.2, limit=10) == ended[:2]


def test_objects_left_by_jobs_without_a_result_are_cleaned_up(first: JobStore) -> None:
    unclean = first.unclean(now=1.0, limit=10)
    assert sorted(job.id for job in unclean) == [f"{1:032x}", f"{2:032x}"]

    for job in unclean:
        assert first.replace(endings.cleaned(job, 9999.0))
    assert first.unclean(now=9999.0, limit=10) == []


def test_leases_of_jobs_become_leases_of_workers(second: JobStore) -> None:
    assert second.heartbeats() == {"w1": 0.0, "w2": 0.0}
    assert sorted(second.leases("w1"), key=lambda lease: lease.job_id) == [
        HeldLease(f"{2:032x}", 1, 0.0),
        HeldLease(f"{3:032x}", 1, 1003.125 + 500.25),
    ]
    assert second.leases("w2") == [HeldLease(f"{4:032x}", 1, None)]
    assert second.counts()["small-sfx"] == {"queued": 2, "running": 3}

    for number in (2, 3, 4):
        assert second.replace(lifecycle.take_back(stored(second, number), 1, 1130.0))
    for worker in ("w1", "w2"):
        second.forget_worker(worker, 0.0)

    assert second.heartbeats() == {}
    assert second.counts()["small-sfx"] == {"queued": 4, "running": 0}


def test_jobs_that_had_ended_can_be_changed_and_deleted(second: JobStore) -> None:
    cleaned = endings.cleaned(stored(second, 1), 9999.0)
    assert second.replace(cleaned)
    assert second.unclean(now=9999.0, limit=10) == []

    for job in (stored(second, 0), cleaned):
        assert second.delete(job)
    assert second.ended(before=9999.0, limit=10) == []


def test_the_queue_and_what_is_due_after_the_end_live_on(second: JobStore) -> None:
    assert second.queue("small-sfx", limit=10) == [f"{5:032x}", f"{6:032x}"]
    assert second.next_due("small-sfx") == 1005.125
    assert second.overdue(now=1700.0, limit=10) == [stored(second, 5)]
    assert second.get_by_key("", "key") == stored(second, 6)
    assert second.ended(before=9999.0, limit=10) == [stored(second, 0), stored(second, 1)]
    assert second.unclean(now=9999.0, limit=10) == [stored(second, 1)]
    assert second.due_webhooks(now=9999.0, limit=10) == [stored(second, 1)]
    assert [job.id for job in second.page(limit=2)] == [f"{6:032x}", f"{5:032x}"]


def test_jobs_without_an_owner_live_beside_those_with_one(second: JobStore) -> None:
    keyed = stored(second, 6)
    assert keyed.owner == ""
    options = JobOptions(owner="ann", idempotency_key="key", fingerprint="f")
    insert(second, lifecycle.new_job("a" * 32, keyed.request, 1006.5, options))

    assert second.get_by_key("", "key") == keyed
    assert second.get_by_key("ann", "key") == second.get("a" * 32)
    assert [job.id for job in second.page(limit=10, owner="ann")] == ["a" * 32]

    for job in (lifecycle.cancel(keyed, 1200.0), endings.cleaned(stored(second, 1), 9999.0)):
        assert second.replace(job)
        assert second.delete(job)
    assert second.get_by_key("", "key") is None
    assert len(second.page(limit=10)) == 6


def test_new_jobs_come_behind_those_that_waited(second: JobStore) -> None:
    waiting = second.queue("small-sfx", limit=10)
    request = stored(second, 5).request

    def new(number: int, owner: str, **options: Any) -> str:
        made = JobOptions(owner=owner, work=0.5, **options)
        job = lifecycle.new_job(f"{number:032x}", request, 1006.5, made)
        insert(second, job)
        return job.id

    later = [new(10, ""), new(11, "")]
    assert second.queue("small-sfx", limit=10) == [*waiting, *later]
    fresh = new(12, "ann")
    assert second.queue("small-sfx", limit=10).index(fresh) <= 1
    urgent = new(13, "", priority="high")
    assert second.queue("small-sfx", limit=10) == [
        urgent, *[one for one in second.queue("small-sfx", limit=10) if one != urgent]
    ]  # fmt: skip

    # A job that had been leased before, and is handed back, has waited longest.
    held = stored(second, 4)
    assert second.replace(lifecycle.release(held, 1, 1130.0))
    taken = second.claim(
        "small-sfx", "w", now=2000.0, limit=10, take=lambda job: lifecycle.lease(job, "w", 2000.0)
    )
    order = [job.id for job in taken]
    assert order.index(held.id) < min(order.index(one) for one in later)


def test_whether_an_owner_has_more_in_the_queue_is_read_from_an_index(tmp_path: Path) -> None:
    open_job_store(write_sqlite(tmp_path / "jobs.db", 1)).close()

    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        [*_, plan] = connection.execute(
            "EXPLAIN QUERY PLAN SELECT 1 FROM jobs "
            "WHERE variant = 'small-sfx' AND owner = 'ann' AND status = 'queued'"
        )
    connection.close()

    assert plan[-1] == "SEARCH jobs USING INDEX jobs_owned (variant=? AND owner=?)"
