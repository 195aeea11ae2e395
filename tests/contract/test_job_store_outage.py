"""Servers that crash and come back, and servers that refuse."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.exceptions import MasterDownError, OutOfMemoryError, ReadOnlyError, RedisError
from sqlalchemy.exc import OperationalError

from bench.databases import PostgresqlServer, RedisServer, postgresql, redis_server
from sa_ray.contracts import Job
from sa_ray.errors import ConfigurationError, JobStoreError
from sa_ray.jobs import JobStore, check_job_store_url, lifecycle, open_job_store
from sa_ray.jobs.stores.redis_store.connection import is_passing
from sa_ray.jobs.stores.sql_store.engine import create_job_engine
from sa_ray.jobs.stores.sql_store.postgresql import BoundedConnection, unbounded
from sa_ray.jobs.stores.sql_store.schema import MIGRATIONS, migrate
from tests.support.fault_proxy import FaultProxy
from tests.support.jobs import insert, resolved

REQUEST = resolved()

ANSWER_TIMEOUT_S = 2
PATIENCE_S = 60


@pytest.fixture(scope="module", params=[postgresql, redis_server], ids=["postgresql", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresqlServer | RedisServer]:
    """A server of this module's own, to be killed."""
    with request.param() as running:
        yield running


@pytest.fixture
def store(server: PostgresqlServer | RedisServer) -> Iterator[JobStore]:
    opened = open_job_store(server.url())
    yield opened
    opened.close()


def new_job(number: int) -> Job:
    return lifecycle.new_job(f"{number:032x}", REQUEST, 1000.0 + number)


def test_an_outage_is_a_passing_error_and_nothing_acknowledged_is_lost(
    server: PostgresqlServer | RedisServer, store: JobStore
) -> None:
    for number in range(20):
        insert(store, new_job(number))
    taken = store.claim(
        "small-sfx", "w", now=2000.0, limit=5, take=lambda job: lifecycle.lease(job, "w", 2000.0)
    )

    server.kill()
    calls = (
        store.check,
        lambda: insert(store, new_job(99)),
        lambda: store.get(new_job(1).id),
        lambda: store.replace(lifecycle.cancel(new_job(10), 2000.0)),
        store.counts,
    )

    for call in calls:
        with pytest.raises(JobStoreError) as refused:
            call()
        assert refused.value.transient

    server.start()
    # The same store object: its connections are made anew.
    store.check()

    assert store.get(new_job(99).id) is None
    assert [store.get(job.id) for job in taken] == taken
    assert store.queue("small-sfx", limit=100) == [new_job(n).id for n in range(5, 20)]
    assert store.counts()["small-sfx"]["running"] == 5


@pytest.fixture
def proxied(
    server: PostgresqlServer | RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[JobStore, FaultProxy]]:
    """A store that waits 2 s for an answer, not 10 or 3, and what stands before its server."""
    monkeypatch.setattr(BoundedConnection, "answer_timeout_s", ANSWER_TIMEOUT_S)
    monkeypatch.setattr(f"{is_passing.__module__}.ANSWER_TIMEOUT_S", ANSWER_TIMEOUT_S)
    with FaultProxy(server.port) as proxy:
        store = open_job_store(server.url().replace(str(server.port), str(proxy.port)))
        yield store, proxy
        proxy.refuse()
        store.close()


def test_a_server_that_falls_silent_is_a_passing_error_and_is_used_again(
    proxied: tuple[JobStore, FaultProxy],
) -> None:
    store, proxy = proxied
    insert(store, new_job(200))
    proxy.fall_silent()
    calls = (store.check, lambda: store.get(new_job(200).id), store.counts, store.heartbeats)

    with ThreadPoolExecutor(len(calls)) as threads:
        for outcome in [threads.submit(call) for call in calls]:
            error = outcome.exception(timeout=PATIENCE_S)
            assert isinstance(error, JobStoreError)
            assert error.transient

    proxy.pass_on()
    assert store.get(new_job(200).id) == new_job(200)


@pytest.mark.parametrize("server", [postgresql], ids=["postgresql"], indirect=True)
def test_a_primary_that_becomes_a_standby_is_left_for_the_next(
    server: PostgresqlServer, store: JobStore
) -> None:
    insert(store, new_job(300))
    held = lifecycle.lease(new_job(300), "w", 2000.0)

    with server.read_only():
        for _ in range(3):
            with pytest.raises(JobStoreError, match="read-only") as refused:
                store.replace(held)
            assert refused.value.transient

    assert store.replace(held)


def test_after_a_redis_failover_the_new_primary_is_found_by_the_same_address() -> None:
    with redis_server() as first, redis_server() as second, FaultProxy(first.port) as proxy:
        store = open_job_store(first.url().replace(str(first.port), str(proxy.port)))
        insert(store, new_job(1))
        second.follow(first)
        second.take_over_from(first)

        # The connections stay: the old primary lives on as a replica.
        proxy.lead_new_connections_to(second.port)
        with pytest.raises(JobStoreError, match="READONLY") as refused:
            insert(store, new_job(2))
        assert refused.value.transient

        insert(store, new_job(2))
        assert store.queue("small-sfx", limit=10) == [new_job(1).id, new_job(2).id]
        store.close()


def test_a_failover_under_load_refuses_for_now_and_only_so() -> None:
    with redis_server() as first, redis_server() as second, FaultProxy(first.port) as proxy:
        store = open_job_store(first.url().replace(str(first.port), str(proxy.port)))
        second.follow(first)
        over = threading.Event()
        outcomes: Counter[str] = Counter()

        def report(worker: int) -> None:
            number = worker
            while not over.is_set():
                number += 16
                try:
                    insert(store, new_job(number))
                    store.check()
                except JobStoreError as error:
                    outcomes["refused" if error.transient else error.message] += 1
                else:
                    outcomes["stored"] += 1

        with ThreadPoolExecutor(16) as threads:
            workers = [threads.submit(report, worker) for worker in range(16)]
            while outcomes["stored"] < 50:
                time.sleep(0.01)
            second.take_over_from(first)
            proxy.lead_new_connections_to(second.port)
            after = outcomes["stored"]
            while outcomes["stored"] < after + 50 and not any(work.done() for work in workers):
                time.sleep(0.01)
            over.set()
            for work in workers:
                work.result()

        assert outcomes.keys() == {"stored", "refused"}
        store.close()


@pytest.mark.parametrize("kind", [ReadOnlyError, OutOfMemoryError, MasterDownError])
def test_errors_whose_code_the_redis_client_strips_may_pass(kind: type[RedisError]) -> None:
    """Servers from Redis 7 on give the code of a script's error as that of any other."""
    assert is_passing(kind("You can't write against a read only replica."))


def test_a_migration_may_take_longer_than_an_answer(
    postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedConnection, "answer_timeout_s", 0.2)
    slow = [*MIGRATIONS[:-1], [*MIGRATIONS[-1], {"postgresql": "SELECT pg_sleep(1)"}]]
    engine = create_job_engine(postgresql_server.create_database("slow"))

    with engine.begin() as connection, unbounded(connection):
        migrate(connection, slow)
    with pytest.raises(OperationalError, match="no answer within"), engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(1)")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://127.0.0.1:1/0?tls=true", "tls"),
        ("redis://127.0.0.1:1/zero", "Redis URL"),
        ("postgresql://postgres@127.0.0.1:1/jobs?tls=true", "tls"),
        ("postgresql://postgres@127.0.0.1:one/jobs", "database URL"),
    ],
)
def test_a_url_that_can_never_work_is_refused_by_what_is_wrong(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as refused:
        check_job_store_url(url)
    assert "STABLE_AUDIO_JOBS_URL" in refused.value.message

    with pytest.raises(ConfigurationError):
        open_job_store(url)


def test_a_server_that_is_away_at_the_start_is_a_passing_error(
    server: PostgresqlServer | RedisServer,
) -> None:
    server.kill()

    with pytest.raises(JobStoreError) as refused:
        open_job_store(server.url())

    assert refused.value.transient
    server.start()


def test_a_wrong_database_name_is_a_lasting_error(postgresql_server: PostgresqlServer) -> None:
    with pytest.raises(JobStoreError, match="does not exist") as refused:
        open_job_store(postgresql_server.url("absent"))
    assert not refused.value.transient


def test_a_wrong_redis_password_is_a_lasting_error_that_does_not_repeat_it(
    redis_db: RedisServer,
) -> None:
    url = redis_db.url().replace("redis://", "redis://:hunter2@")

    with pytest.raises(JobStoreError) as refused:
        open_job_store(url)

    assert not refused.value.transient
    assert "hunter2" not in refused.value.message


def test_redis_without_memory_refuses_for_now(redis_db: RedisServer) -> None:
    with redis_db.client() as client:
        client.flushall()
        store = open_job_store(redis_db.url())
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(JobStoreError, match="OOM") as refused:
                insert(store, new_job(1))
        finally:
            client.config_set("maxmemory", "0")

    assert refused.value.transient
    store.close()


def test_redis_that_would_lose_jobs_is_reported(
    redis_db: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    open_job_store(redis_db.url()).close()
    assert "appendfsync" not in caplog.text

    with redis_db.client() as client:
        client.config_set("appendfsync", "everysec")
        try:
            open_job_store(redis_db.url()).close()
        finally:
            client.config_set("appendfsync", "always")

    assert "appendfsync everysec" in caplog.text


def test_redis_jobs_of_a_later_release_are_refused(redis_db: RedisServer) -> None:
    open_job_store(redis_db.url()).close()

    with redis_db.client() as client:
        client.set("{sa-ray}:schema", 999)
        try:
            with pytest.raises(JobStoreError, match="999") as refused:
                open_job_store(redis_db.url())
        finally:
            client.delete("{sa-ray}:schema")

    assert not refused.value.transient


def test_redis_keeps_every_key_in_one_slot_under_its_prefix(redis_db: RedisServer) -> None:
    with redis_db.client() as client:
        client.flushall()
        store = open_job_store(redis_db.url())
        job = lifecycle.new_job(
            "a" * 32,
            REQUEST,
            1000.0,
            lifecycle.JobOptions(idempotency_key="k", expires_in=60.0, webhook_url="http://a/"),
        )
        insert(store, job)
        cancelled = lifecycle.cancel(job, 1001.0)
        assert store.replace(cancelled)
        assert store.delete(cancelled)
        # Nothing of a deleted job is left.
        assert client.keys() == [b"{sa-ray}:schema"]
        insert(store, job)
        assert all(key.startswith(b"{sa-ray}:") for key in client.scan_iter())
        store.close()
