"""Whose jobs are whose, in every job store."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sa_ray.contracts import Job
from sa_ray.errors import ConflictError
from sa_ray.jobs import Cursor, JobOptions, JobStore, lifecycle, open_job_store
from tests.support.jobs import FAULT, insert, resolved


def job(number: int, owner: str, key: str | None = None) -> Job:
    options = JobOptions(owner=owner, idempotency_key=key, fingerprint=key and "f")
    return lifecycle.new_job(f"{number:032x}", resolved(), 1000.0 + number, options)


def ids(jobs: list[Job]) -> list[str]:
    return [each.id for each in jobs]


def test_a_job_keeps_its_owner(job_store: JobStore) -> None:
    insert(job_store, job(1, "ann"))
    [held] = job_store.claim(
        "small-sfx", "w", now=2000.0, limit=1, take=lambda one: lifecycle.lease(one, "w", 2000.0)
    )
    assert job_store.replace(lifecycle.retry(held, 1, FAULT, 2001.0))

    found = job_store.get(held.id)
    assert found is not None
    assert found.owner == "ann"
    assert ids(job_store.page(limit=10, owner="ann")) == [held.id]


def test_lists_can_be_of_one_owner(job_store: JobStore) -> None:
    insert(job_store, job(0, "ann"), job(1, ""), job(2, "bob"), job(3, "ann"), job(4, "ann"))
    cancelled = lifecycle.cancel(job(3, "ann"), 2000.0)
    assert job_store.replace(cancelled)

    def listed(**chosen: object) -> list[int]:
        page = job_store.page(limit=10, owner="ann", **chosen)  # type: ignore[arg-type]
        return [int(one.id, 16) for one in page]

    assert listed() == [4, 3, 0]
    assert listed(status="queued") == [4, 0]
    assert listed(status="cancelled") == [3]
    assert listed(after=Cursor(1004.0, f"{4:032x}")) == [3, 0]
    assert listed(after=Cursor(1004.0, f"{4:032x}"), status="queued") == [0]
    assert len(job_store.page(limit=10)) == 5
    assert job_store.page(limit=10, owner="eve") == []

    assert job_store.delete(cancelled)
    assert listed() == [4, 0]
    assert listed(status="cancelled") == []


def test_the_queued_jobs_of_an_owner_are_counted(job_store: JobStore) -> None:
    insert(job_store, job(0, "ann"), job(1, ""), job(2, "bob"), job(3, "ann"), job(4, "ann"))
    assert job_store.replace(lifecycle.cancel(job(3, "ann"), 2000.0))

    assert [job_store.queued_of(name) for name in ("ann", "bob", "eve")] == [2, 1, 0]


def test_an_idempotency_key_is_its_owners_alone(job_store: JobStore) -> None:
    mine, theirs, nobodys = job(1, "ann", "key"), job(2, "bob", "key"), job(3, "", "key")
    insert(job_store, mine, theirs, nobodys)

    for owner, held in (("ann", mine), ("bob", theirs), ("", nobodys)):
        assert job_store.get_by_key(owner, "key") == held
        with pytest.raises(ConflictError):
            insert(job_store, job(9, owner, "key"))
    assert job_store.get_by_key("eve", "key") is None

    cancelled = lifecycle.cancel(mine, 2000.0)
    assert job_store.replace(cancelled)
    assert job_store.delete(cancelled)

    assert job_store.get_by_key("ann", "key") is None
    assert job_store.get_by_key("bob", "key") == theirs
    insert(job_store, job(9, "ann", "key"))


def test_a_secret_is_drawn_once_for_all(job_store: JobStore, store_url: str) -> None:
    start = threading.Barrier(4)

    def ask(number: int) -> str:
        start.wait()
        return job_store.secret("links", f"{number:064x}")

    with ThreadPoolExecutor(4) as threads:
        [told] = set(threads.map(ask, range(4)))
    other = open_job_store(store_url)

    assert other.secret("links", "f" * 64) == told
    assert other.secret("other", "f" * 64) == "f" * 64
    other.close()
