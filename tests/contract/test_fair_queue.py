"""How every job store shares a variant among owners: by seconds of work, in the order of need."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from bench.databases import PostgresqlServer, RedisServer
from sa_ray.contracts import Job, VariantName
from sa_ray.errors import ConflictError
from sa_ray.jobs import JobOptions, JobStore, lifecycle, open_job_store
from sa_ray.jobs.stores.port import QUEUE_HORIZON
from tests.support.jobs import insert, place_of, resolved

NOW = 1e6


@pytest.fixture(scope="module")
def postgresql_url(postgresql_server: PostgresqlServer) -> str:
    """A database for all tests of this module: making one takes longer than they do."""
    return postgresql_server.create_database("fair-queue")


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_db")
        with redis.client() as client:
            client.flushall()
        return redis.url()
    url: str = request.getfixturevalue("postgresql_url")
    open_job_store(url).close()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE jobs, workers, queue_positions, queue_shares")
    engine.dispose()
    return url


class Queue:
    """Jobs of a store, by a number and the name of an owner."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._made = 0

    def add(self, owner: str, count: int = 1, **options: Any) -> list[Job]:
        made = []
        for _ in range(count):
            self._made += 1
            made.append(
                lifecycle.new_job(
                    f"{self._made:032x}",
                    resolved(options.pop("variant", "small-sfx")),
                    1000.0 + self._made,
                    JobOptions(owner=owner, **({"work": 1.0} | options)),
                )
            )
        for job in made:
            insert(self.store, job)
        return made

    def claim(self, limit: int = 1, variant: VariantName = "small-sfx") -> list[Job]:
        return self.store.claim(
            variant,
            "w",
            now=NOW,
            limit=limit,
            take=lambda job: lifecycle.lease(job, "w", NOW),
        )

    def served(self, count: int) -> list[str]:
        """Return the owners of the next jobs, each claimed by itself."""
        return [job.owner for _ in range(count) for job in self.claim()]


def test_one_job_waits_for_none_of_a_crowd_of_another_owner(job_store: JobStore) -> None:
    queue = Queue(job_store)
    with ThreadPoolExecutor(8) as threads:  # as many submit at once
        parts = [Queue(job_store) for _ in range(8)]
        for at, part in enumerate(parts):
            part._made = 10_000 * (at + 1)
        list(threads.map(lambda part: part.add("many", 50), parts))
    assert queue.served(3) == ["many"] * 3

    [one] = queue.add("one")

    assert place_of(job_store, one) <= 2
    assert "one" in queue.served(2)
    assert job_store.counts()["small-sfx"]["queued"] == 400 + 1 - 5


def test_the_jobs_of_one_owner_are_served_in_the_order_they_came(job_store: JobStore) -> None:
    queue = Queue(job_store)
    made = queue.add("", 3, work=0.0) + queue.add("", 2, work=500.0) + queue.add("", 3, work=0.1)
    assert [job.id for job in queue.claim(4)] == [job.id for job in made[:4]]
    made += queue.add("", 2)

    assert job_store.queue("small-sfx", limit=10) == [job.id for job in made[4:]]
    assert [place_of(job_store, job) for job in made[4:]] == [1, 2, 3, 4, 5, 6]


def test_shares_are_of_seconds_and_not_of_jobs(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("long", 10, work=4.0)
    queue.add("short", 40, work=1.0)

    served = Counter(queue.served(25))

    assert abs(served["long"] * 4.0 - served["short"]) <= 4.0 + 1.0


def test_weights_are_kept(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("heavy", 30, weight=2.0)
    queue.add("light", 30)

    served = Counter(queue.served(30))

    assert abs(served["heavy"] - 2 * served["light"]) <= 3


def test_who_used_an_idle_service_alone_owes_nothing(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("alone", 20)
    assert queue.served(20) == ["alone"] * 20

    queue.add("fresh", 20)
    queue.add("alone", 20)

    served = Counter(queue.served(10))
    assert abs(served["alone"] - served["fresh"]) <= 2


def test_who_was_idle_has_saved_nothing(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("idle")
    queue.add("busy", 30)
    queue.served(20)

    queue.add("idle", 10)

    served = Counter(queue.served(10))
    assert abs(served["idle"] - served["busy"]) <= 2


def test_owners_share_within_each_priority(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("many", 30, priority="high", work=10.0)
    queue.add("many", 10, priority="normal", work=10.0)
    queue.add("one", 2, priority="high", work=10.0)
    queue.add("one", 1, priority="low", work=10.0)

    first = queue.claim(4)
    assert {job.priority for job in first} == {"high"}
    assert Counter(job.owner for job in first) == {"many": 2, "one": 2}

    # A head start of 600 s of work, of which each owner has used 20: then the others are served.
    rest = [job.priority for job in queue.claim(100)]
    assert rest.count("normal") == 10
    assert rest[-1] == "low"


def test_high_priority_alone_leaves_no_debt_either(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("alone", 30, priority="high", work=100.0)
    assert queue.served(30) == ["alone"] * 30

    queue.add("fresh", 10, priority="high", work=100.0)
    queue.add("alone", 10, priority="high", work=100.0)
    served = Counter(queue.served(10))

    assert abs(served["alone"] - served["fresh"]) <= 2


def test_low_priority_is_served_once_enough_work_was(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("patient", priority="low")

    before = 0
    while queue.add("busy", work=100.0) and queue.served(1) != ["patient"]:
        before += 1
        assert before < 10
    assert before in (6, 7)


def test_variants_are_shared_apart(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("many", 10)
    queue.served(5)
    for _ in range(3):
        queue.add("many", variant="medium")
    queue.add("one", variant="medium")

    assert {job.owner for job in queue.claim(2, variant="medium")} == {"many", "one"}


def test_a_retried_job_has_its_old_place(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("ann", 5)
    [held] = queue.claim()
    queue.add("bob", 5)
    queue.served(3)

    assert job_store.replace(lifecycle.release(held, 1, NOW))

    assert place_of(job_store, held) == 1
    assert [job.id for job in queue.claim()] == [held.id]


def test_the_order_outlives_the_store_object(job_store: JobStore, store_url: str) -> None:
    queue = Queue(job_store)
    queue.add("many", 30)
    queue.served(10)
    before = job_store.queue("small-sfx", limit=QUEUE_HORIZON)
    job_store.close()

    reopened = open_job_store(store_url)
    later = Queue(reopened)
    later._made = 1000
    assert reopened.queue("small-sfx", limit=QUEUE_HORIZON) == before
    [last] = later.add("many")
    [one] = later.add("one")

    assert place_of(reopened, last) == 22
    assert place_of(reopened, one) <= 2
    reopened.close()


def test_a_refused_job_costs_its_owner_nothing(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("ann", 2)
    queue.add("bob", work=1000.0, idempotency_key="key", fingerprint="f")
    queue.served(3)
    queue.add("ann", 1)
    queue.served(1)
    for _ in range(3):
        with pytest.raises(ConflictError):
            queue.add("bob", work=1e9, idempotency_key="key", fingerprint="f")
    queue.add("ann", 5, work=400.0)

    [again] = queue.add("bob", work=1000.0)

    assert place_of(job_store, again) <= 4


def test_concurrent_claimers_share_fairly_too(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("many", 40)
    queue.add("few", 20)
    start = threading.Barrier(4)

    def claim(_number: int) -> list[str]:
        start.wait()
        return Queue(job_store).served(10)

    with ThreadPoolExecutor(4) as threads:
        served = Counter(owner for owners in threads.map(claim, range(4)) for owner in owners)

    assert served["few"] >= 20 - 4  # each of the four may be about to take one
    assert served["few"] + served["many"] == 40


def test_cancelled_jobs_are_not_charged_once_none_waits(job_store: JobStore) -> None:
    queue = Queue(job_store)
    made = queue.add("ann", 10, work=100.0)
    queue.add("bob", 10)
    assert set(queue.served(2)) == {"ann", "bob"}
    for job in made:
        found = job_store.get(job.id)
        if found and found.status == "queued":
            assert job_store.replace(lifecycle.cancel(found, NOW))

    # What was claimed counts: a job of 100 s. What was cancelled does not.
    [again] = queue.add("ann", work=100.0)
    queue.add("bob", 20, work=10.0)
    served = queue.served(25)
    assert 14 <= served.index("ann") <= 22
    assert place_of(job_store, again) is None


def test_jobs_cancelled_behind_one_that_is_claimed_are_not_charged_either(
    job_store: JobStore,
) -> None:
    queue = Queue(job_store)
    first, *others = queue.add("ann", 5, work=100.0)
    for job in others:
        assert job_store.replace(lifecycle.cancel(job, NOW))
    assert [job.id for job in queue.claim()] == [first.id]
    queue.add("bob", 15, work=10.0)

    queue.add("ann", work=100.0)

    assert 8 <= queue.served(13).index("ann") <= 12


def test_high_jobs_have_their_head_start_in_a_new_store(job_store: JobStore) -> None:
    queue = Queue(job_store)
    queue.add("ann", 5, priority="high", work=10.0)
    first = queue.claim()
    queue.add("bob", 3, work=10.0)

    served = first + [job for _ in range(7) for job in queue.claim()]

    assert [job.priority for job in served] == ["high"] * 5 + ["normal"] * 3


def test_jobs_cancelled_at_once_leave_no_debt(job_store: JobStore) -> None:
    queue = Queue(job_store)
    with ThreadPoolExecutor(16) as threads:
        for owner in "abcdefghij":
            made = queue.add(owner, 16, work=10.0)
            start = threading.Barrier(len(made))

            def cancel(job: Job, start: threading.Barrier = start) -> bool:
                cancelled = lifecycle.cancel(job, NOW)
                start.wait()
                return job_store.replace(cancelled)

            assert all(threads.map(cancel, made))
            [theirs] = queue.add(owner, work=10.0)
            queue.add("fresh", work=10.0)

            assert next(iter(queue.claim(2))).id == theirs.id


def test_jobs_cancelled_while_the_last_is_claimed_leave_no_debt(job_store: JobStore) -> None:
    queue = Queue(job_store)
    with ThreadPoolExecutor(8) as threads:
        for owner in "abcdefghij":
            first, *others = queue.add(owner, 8, work=100.0)
            start = threading.Barrier(1 + len(others))

            def cancel(job: Job, start: threading.Barrier = start) -> bool:
                cancelled = lifecycle.cancel(job, NOW)
                start.wait()
                return job_store.replace(cancelled)

            cancelling = [threads.submit(cancel, job) for job in others]
            start.wait()
            assert [job.id for job in queue.claim()] == [first.id]
            assert all(done.result() for done in cancelling)
            queue.add(f"{owner}-fresh", 15, work=10.0)
            queue.add(owner, work=100.0)

            assert 8 <= [job.owner for job in queue.claim(16)].index(owner) <= 12
