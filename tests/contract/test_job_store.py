"""What every ``JobStore`` promises. Another store joins by its URL in ``store_url``."""

import itertools
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sa_ray.contracts import Job, JobError, StoredClip, UsageRow, VariantName
from sa_ray.errors import ConflictError, JobStoreError
from sa_ray.jobs import (
    Cursor,
    JobOptions,
    JobSnapshot,
    JobStore,
    endings,
    lifecycle,
    open_job_store,
    time_limits,
    webhook_schedule,
)
from sa_ray.jobs.stores.port import QUEUE_HORIZON, HeldLease
from tests.support.jobs import FAULT, RESULT, insert, place_of, resolved


def job(
    number: int,
    *,
    variant: VariantName = "small-sfx",
    created_at: float | None = None,
    prompt: str = "rain",
) -> Job:
    now = 1000.0 + number if created_at is None else created_at
    return lifecycle.new_job(f"{number:032x}", resolved(variant, prompt), now)


def claim(
    store: JobStore,
    *,
    limit: int = 100,
    now: float = 2000.0,
    variant: VariantName = "small-sfx",
    worker: str = "w1",
) -> list[Job]:
    def take(queued: Job) -> Job:
        return lifecycle.lease(queued, worker, now)

    return store.claim(variant, worker, now=now, limit=limit, take=take)


def ids(jobs: list[Job]) -> list[str]:
    return [each.id for each in jobs]


def held(store: JobStore, worker: str) -> list[tuple[str, int]]:
    return sorted((lease.job_id, lease.token) for lease in store.leases(worker))


@pytest.mark.parametrize(
    "prompt", ["rain", "дождь 雨 🌧", "'; DROP TABLE jobs; --\x00\n", "x" * 10_000]
)
def test_a_job_reads_back_as_it_was_stored(job_store: JobStore, prompt: str) -> None:
    stored = job(1, prompt=prompt, created_at=1_700_000_000.123456789)
    insert(job_store, stored)

    assert job_store.get(stored.id) == stored
    assert job_store.get("f" * 32) is None


def test_a_job_of_several_clips_reads_back_with_all_of_them(job_store: JobStore) -> None:
    request = resolved().model_copy(update={"n": 8})
    insert(job_store, lifecycle.new_job("1" * 32, request, 1.0))
    [taken] = claim(job_store)
    clip = StoredClip(audio=RESULT.audio, object=RESULT.object)
    done = RESULT.model_copy(update={"others": (clip,) * 7})
    ended = lifecycle.succeed(taken, taken.token, done, 2.0)

    assert job_store.replace(ended)

    assert job_store.get(ended.id) == ended


def test_an_id_is_taken_once(job_store: JobStore) -> None:
    insert(job_store, job(1))
    [held] = claim(job_store)

    with pytest.raises(ConflictError):
        insert(job_store, job(1))

    assert job_store.get(held.id) == held


@pytest.mark.parametrize(
    "end",
    [
        lambda held: lifecycle.succeed(held, 1, RESULT, 2001.0),
        lambda held: lifecycle.fail(held, 1, FAULT, 2001.0),
        lambda held: lifecycle.retry(held, 1, FAULT, 2001.0),
        lambda held: lifecycle.release(held, 1, 2001.0),
        lambda held: lifecycle.cancel(held, 2001.0),
    ],
    ids=["succeed", "fail", "retry", "release", "cancel"],
)
def test_transitions_outlive_the_store_object(
    job_store: JobStore, store_url: str, end: Callable[[Job], Job]
) -> None:
    insert(job_store, job(1))
    [held] = claim(job_store)
    ended = end(held)

    assert job_store.replace(ended)
    job_store.close()

    reopened = open_job_store(store_url)
    assert reopened.get(held.id) == ended
    reopened.close()


def test_a_change_based_on_an_old_version_is_refused(job_store: JobStore) -> None:
    insert(job_store, job(1))
    [held] = claim(job_store)

    assert job_store.replace(lifecycle.cancel(held, 2001.0))
    assert not job_store.replace(lifecycle.succeed(held, 1, RESULT, 2002.0))
    assert not job_store.replace(lifecycle.cancel(job(2), 2001.0))

    stored = job_store.get(held.id)
    assert stored is not None
    assert (stored.status, stored.version, stored.cancel_requested) == ("running", 2, True)


def test_of_racing_changes_exactly_one_is_stored(job_store: JobStore) -> None:
    insert(job_store, job(1))
    [held] = claim(job_store)
    start = threading.Barrier(8)

    def race(number: int) -> bool:
        start.wait()
        error = JobError(code="test", message=str(number))
        return job_store.replace(lifecycle.fail(held, 1, error, 2001.0))

    with ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(race, range(8)))

    assert stored.count(True) == 1

    final = job_store.get(held.id)
    assert final is not None
    assert final.error == JobError(code="test", message=str(stored.index(True)))


def test_only_the_current_version_of_a_job_can_be_deleted(job_store: JobStore) -> None:
    first = job(1)
    insert(job_store, first)
    cancelled = lifecycle.cancel(first, 1002.0)

    assert job_store.replace(cancelled)
    assert not job_store.delete(first)
    assert job_store.delete(cancelled)
    assert job_store.get(first.id) is None
    assert not job_store.delete(cancelled)


def test_claims_take_the_jobs_of_the_variant_that_came_first(job_store: JobStore) -> None:
    insert(job_store, job(5), job(3), job(4), job(1, variant="medium"))
    # Whatever a clock that was set back says.
    insert(job_store, job(9, created_at=1.0), job(8, created_at=1.0))

    assert ids(claim(job_store, limit=2)) == ids([job(5), job(3)])
    assert ids(claim(job_store, limit=10)) == [f"{number:032x}" for number in (4, 9, 8)]
    assert claim(job_store) == []


@pytest.mark.parametrize("limit", [0, -4])
def test_a_claim_of_nothing_takes_nothing(job_store: JobStore, limit: int) -> None:
    insert(job_store, *(job(number) for number in range(10)))

    assert claim(job_store, limit=limit) == []
    assert job_store.counts()["small-sfx"] == {"queued": 10, "running": 0}


def test_a_claimed_job_is_stored_as_taken(job_store: JobStore) -> None:
    insert(job_store, job(1))

    [held] = claim(job_store)

    assert (held.status, held.token) == ("running", 1)
    assert job_store.get(held.id) == held


def test_a_job_in_backoff_is_claimed_in_its_old_place_once_due(job_store: JobStore) -> None:
    insert(job_store, job(1), job(2))
    [held] = claim(job_store, limit=1)
    waiting = lifecycle.retry(held, 1, FAULT, 2000.0)
    assert job_store.replace(waiting)
    insert(job_store, job(3))

    assert ids(claim(job_store, limit=1)) == [job(2).id]
    assert ids(claim(job_store, now=waiting.not_before)) == ids([job(1), job(3)])


def test_a_claim_that_fails_takes_nothing(job_store: JobStore) -> None:
    insert(job_store, job(1), job(2))

    def take(queued: Job) -> Job:
        if queued.id == job(2).id:
            raise RuntimeError("boom")
        return lifecycle.lease(queued, "w1", 2000.0)

    with pytest.raises(RuntimeError):
        job_store.claim("small-sfx", "w1", now=2000.0, limit=10, take=take)

    assert job_store.get(job(1).id) == job(1)
    assert ids(claim(job_store)) == ids([job(1), job(2)])


def test_concurrent_threads_never_claim_the_same_job(job_store: JobStore) -> None:
    insert(job_store, *(job(number) for number in range(40)))
    start = threading.Barrier(4)

    def work(number: int) -> list[str]:
        start.wait()
        taken: list[str] = []
        while some := claim(job_store, limit=3, worker=f"w{number}"):
            taken += ids(some)
        return taken

    with ThreadPoolExecutor(4) as threads:
        claimed = [job_id for taken in threads.map(work, range(4)) for job_id in taken]

    assert sorted(claimed) == ids([job(number) for number in range(40)])


CLAIMER = """
import sys
from sa_ray.jobs import lifecycle, open_job_store

store = open_job_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
worker = sys.argv[2]
take = lambda job: lifecycle.lease(job, worker, 2000.0)
while jobs := store.claim("small-sfx", worker, now=2000.0, limit=2, take=take):
    for job in jobs:
        print(job.id)
"""


def test_concurrent_processes_never_claim_the_same_job(job_store: JobStore, store_url: str) -> None:
    insert(job_store, *(job(number) for number in range(60)))
    workers = [start_process(CLAIMER, store_url, name) for name in ("w1", "w2")]

    for worker in workers:
        assert read_line(worker) == "ready"

    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed = [line for worker in workers for line in worker.communicate(timeout=60)[0].split()]

    assert [worker.returncode for worker in workers] == [0, 0]
    assert sorted(claimed) == ids([job(number) for number in range(60)])


WRITER = """
import itertools, sys
from sa_ray.contracts import ResolvedRequest
from sa_ray.jobs import lifecycle, open_job_store

store = open_job_store(sys.argv[1])
request = ResolvedRequest(
    model="small-sfx", prompt="rain", duration=1.0, steps=8, cfg_scale=1.0, seed=7
)
for number in itertools.count():
    job = lifecycle.new_job(f"{number:032x}", request, 1000.0 + number)
    assert store.insert_all([job]) == [True]
    print("inserted", job.id, flush=True)
    take = lambda job: lifecycle.lease(job, "w1", 1e6)
    [job] = store.claim("small-sfx", "w1", now=1e6, limit=1, take=take)
    print("claimed", job.id, flush=True)
"""


def test_what_a_killed_writer_was_told_is_stored_stays_stored(store_url: str) -> None:
    writer = start_process(WRITER, store_url)
    told = [read_line(writer) for _ in range(51)]
    writer.send_signal(signal.SIGKILL)
    told += writer.communicate(timeout=60)[0].splitlines()

    store = open_job_store(store_url)
    stored = {each.id: each for each in store.page(limit=100_000)}
    inserted = {line.split()[1] for line in told if line.startswith("inserted ")}
    claimed = {line.split()[1] for line in told if line.startswith("claimed ")}

    assert len(inserted) > 20
    assert inserted <= stored.keys()
    assert all(stored[job_id].status == "running" for job_id in claimed)

    insert(store, job(10**6))
    store.close()


def test_a_worker_holds_the_running_jobs_that_it_claimed(job_store: JobStore) -> None:
    insert(job_store, *(job(number) for number in range(4)), job(9, variant="medium"))
    first, second, third = claim(job_store, limit=3)
    [medium] = claim(job_store, variant="medium")
    claim(job_store, worker="w2")

    assert job_store.replace(lifecycle.succeed(first, 1, RESULT, 2001.0))
    assert job_store.replace(lifecycle.release(second, 1, 2001.0))

    assert held(job_store, "w1") == [(third.id, 1), (medium.id, 1)]
    assert held(job_store, "w2") == [(job(3).id, 1)]
    assert held(job_store, "nobody") == []

    assert ids(claim(job_store, worker="w2", now=2001.0)) == [second.id]
    assert held(job_store, "w2") == [(second.id, 2), (job(3).id, 1)]


def test_a_renewal_is_a_heartbeat_and_tells_the_leases(job_store: JobStore) -> None:
    insert(job_store, job(1), with_options(2, expires_in=5000.0), job(3))
    claimed = claim(job_store, now=2000.0)
    assert job_store.heartbeats() == {"w1": 2000.0}
    assert job_store.replace(lifecycle.cancel(claimed[2], 2001.0))

    leases = job_store.renew("w1", now=2003.25)

    assert sorted(leases, key=lambda lease: lease.job_id) == [
        HeldLease(job(1).id, 1, None),
        HeldLease(job(2).id, 1, 6002.0),
        HeldLease(job(3).id, 1, 0.0),
    ]
    assert job_store.heartbeats() == {"w1": 2003.25}
    assert job_store.get(job(1).id) == claimed[0]

    assert job_store.renew("w2", now=2004.0) == []
    assert job_store.heartbeats() == {"w1": 2003.25, "w2": 2004.0}


def test_a_worker_is_forgotten_once_it_is_idle_and_silent(job_store: JobStore) -> None:
    insert(job_store, job(1))
    [claimed] = claim(job_store, now=2000.0)

    job_store.forget_worker("w1", 2000.0)
    assert job_store.heartbeats() == {"w1": 2000.0}  # it holds a job

    assert job_store.replace(lifecycle.take_back(claimed, 1, 2001.0))
    job_store.renew("w1", now=2002.0)
    job_store.forget_worker("w1", 2000.0)
    assert job_store.heartbeats() == {"w1": 2002.0}  # it lives

    job_store.forget_worker("w1", 2002.0)
    assert job_store.heartbeats() == {}


def test_position_counts_the_waiting_jobs_of_the_variant_up_to_this_one(
    job_store: JobStore,
) -> None:
    insert(job_store, job(0), job(1, variant="medium"), job(2), job(3))

    assert [place_of(job_store, job(number)) for number in (0, 2, 3)] == [1, 2, 3]

    claim(job_store, limit=1)
    assert [place_of(job_store, job(number)) for number in (2, 3)] == [1, 2]


def test_places_beyond_the_horizon_are_not_told_apart(job_store: JobStore) -> None:
    far = QUEUE_HORIZON + 2
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: insert(job_store, job(number)), range(far)))

    queue = [int(job_id, 16) for job_id in job_store.queue("small-sfx", limit=far)]
    places = [place_of(job_store, job(queue[at])) for at in (0, QUEUE_HORIZON - 2, far - 1)]

    assert places == [1, QUEUE_HORIZON - 1, QUEUE_HORIZON]


def test_pages_are_stable_while_jobs_arrive(job_store: JobStore) -> None:
    # Pairs of one age, so that pages must also end well between equals.
    insert(job_store, *(job(number, created_at=1000.0 + number // 2) for number in range(7)))
    seen: list[str] = []
    after = None
    arriving = 100

    while page := job_store.page(limit=3, after=after):
        seen += ids(page)
        after = Cursor(page[-1].created_at, page[-1].id)
        insert(job_store, job(arriving))
        arriving += 1

    assert seen == ids([job(number) for number in reversed(range(7))])


def test_pages_can_be_filtered(job_store: JobStore) -> None:
    insert(job_store, job(0), job(1, variant="medium"), job(2), job(3, variant="medium"))
    claim(job_store, limit=1)
    claim(job_store, limit=1, variant="medium")

    assert ids(job_store.page(limit=10, status="running")) == ids([job(1), job(0)])
    assert job_store.page(limit=10, status="failed") == []

    older = Cursor(job(3).created_at, job(3).id)
    assert ids(job_store.page(limit=10, status="queued", after=older)) == [job(2).id]


def test_counts_tell_the_jobs_of_each_variant_that_have_not_ended(job_store: JobStore) -> None:
    insert(job_store, job(0), job(1), job(2), job(3, variant="medium"))
    claim(job_store, limit=1)
    job_store.replace(lifecycle.cancel(job(1), 2000.0))

    assert job_store.counts() == {
        "small-sfx": {"queued": 1, "running": 1},
        "small-music": {"queued": 0, "running": 0},
        "medium": {"queued": 1, "running": 0},
    }


def test_next_due_is_the_earliest_time_a_waiting_job_may_start(job_store: JobStore) -> None:
    assert job_store.next_due("small-sfx") is None

    insert(job_store, job(1), job(2), job(3, variant="medium"))
    for held in claim(job_store):
        started = lifecycle.retry(held, 1, FAULT, 3000.0 + held.created_at)
        assert job_store.replace(started)

    assert job_store.next_due("small-sfx") == 3000.0 + job(1).created_at + 2.0
    assert job_store.next_due("medium") == job(3).not_before


def with_options(number: int, **options: Any) -> Job:
    request = job(number).request
    return lifecycle.new_job(f"{number:032x}", request, 1000.0 + number, JobOptions(**options))


def ended(store: JobStore, *, now: float) -> Job:
    """Claim the next job and let it fail."""
    [held] = claim(store, limit=1, now=now)
    failed = lifecycle.fail(held, held.token, FAULT, now)
    assert store.replace(failed)
    return failed


def test_priority_goes_before_age_and_much_work_before_all(job_store: JobStore) -> None:
    low = with_options(0, priority="low")
    late = lifecycle.HEAD_START_S["high"] - lifecycle.HEAD_START_S["low"] + 1
    normal, high = job(1), with_options(2, priority="high", work=late)
    behind_much_work = with_options(3, priority="high")
    insert(job_store, low, normal, high, behind_much_work)
    order = [high, normal, low, behind_much_work]

    assert [place_of(job_store, each) for each in order] == [1, 2, 3, 4]
    assert job_store.queue("small-sfx", limit=3) == ids(order[:3])
    assert job_store.next_jobs("small-sfx", limit=3) == order[:3]
    assert ids(claim(job_store, now=3000.0)) == ids(order)
    assert job_store.queue("small-sfx", limit=3) == []


def test_a_job_past_its_deadline_is_listed_and_not_claimed(job_store: JobStore) -> None:
    insert(
        job_store,
        *(with_options(number, expires_in=100.0 - 2 * number) for number in range(3)),
        job(3),
    )

    assert ids(job_store.overdue(now=1099.0, limit=10)) == ids([with_options(2), with_options(1)])
    assert ids(job_store.overdue(now=1099.0, limit=1)) == [with_options(2).id]
    assert ids(claim(job_store, now=1099.0)) == ids([with_options(0), job(3)])
    assert ids(job_store.overdue(now=9999.0, limit=10)) == ids([with_options(2), with_options(1)])


def test_a_job_past_its_wait_is_listed_and_not_claimed(job_store: JobStore) -> None:
    def waiting(number: int, max_wait: float, **options: Any) -> Job:
        return lifecycle.new_job(
            f"{number:032x}", resolved(), 1000.0, JobOptions(**options), max_wait=max_wait
        )

    short, long, due = waiting(1, 50.0), waiting(2, 500.0), waiting(3, 500.0, expires_in=60.0)
    insert(job_store, short, long, due)

    assert ids(job_store.overdue(now=1100.0, limit=10)) == ids([short, due])
    assert ids(job_store.overdue(now=1100.0, limit=1)) == [short.id]
    again = time_limits.overdue(short, 1100.0, served_since=1090.0)
    assert job_store.replace(again)
    assert job_store.overdue(now=1139.0, limit=10) == [due]
    assert job_store.overdue(now=1140.0, limit=10) == [due, again]

    [claimed] = claim(job_store, now=1140.0)
    assert claimed.id == long.id
    assert job_store.overdue(now=9999.0, limit=10) == [due, again]


def test_writes_that_meet_fail_and_succeed_each_for_itself(job_store: JobStore) -> None:
    insert(job_store, job(1000))
    start = threading.Barrier(12)

    def write(number: int) -> object:
        start.wait()
        try:
            match number % 3:
                case 0:
                    insert(job_store, job(number))
                    return "stored"
                case 1:
                    insert(job_store, job(1000, prompt="other"))
                    return "stored"
                case _:
                    return job_store.replace(lifecycle.cancel(job(number), 2000.0))
        except ConflictError:
            return "taken"

    with ThreadPoolExecutor(12) as threads:
        for _ in range(5):
            outcomes = list(threads.map(write, range(12)))
            assert outcomes[0::3] == ["stored"] * 4
            assert outcomes[1::3] == ["taken"] * 4
            assert outcomes[2::3] == [False] * 4
            for stored in job_store.page(limit=100):
                if stored.id != job(1000).id:
                    assert job_store.delete(stored)

    assert job_store.page(limit=100) == [job(1000)]


def test_an_idempotency_key_is_taken_once_and_lives_as_long_as_its_job(
    job_store: JobStore,
) -> None:
    first = with_options(1, idempotency_key="key \N{CLOUD}")
    insert(job_store, first, job(5), job(6))

    with pytest.raises(ConflictError):
        insert(job_store, with_options(2, idempotency_key="key \N{CLOUD}"))

    assert job_store.get(f"{2:032x}") is None
    assert job_store.get_by_key("", "key \N{CLOUD}") == first
    assert job_store.get_by_key("", "other") is None

    failed = ended(job_store, now=2000.0)
    assert job_store.get_by_key("", "key \N{CLOUD}") == failed

    assert job_store.delete(failed)
    assert job_store.get_by_key("", "key \N{CLOUD}") is None

    insert(job_store, with_options(2, idempotency_key="key \N{CLOUD}"))


def test_of_concurrent_inserts_with_one_key_one_is_stored(job_store: JobStore) -> None:
    start = threading.Barrier(8)

    def submit(number: int) -> bool:
        start.wait()
        try:
            insert(job_store, with_options(number, idempotency_key="key"))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(submit, range(8)))

    assert stored.count(True) == 1
    assert ids(job_store.page(limit=10)) == [f"{stored.index(True):032x}"]


def test_of_jobs_that_come_together_each_is_stored_or_refused_for_itself(
    job_store: JobStore,
) -> None:
    insert(job_store, with_options(0, idempotency_key="held"))
    together = [
        with_options(1, idempotency_key="new"),
        with_options(2, idempotency_key="held"),
        with_options(3, idempotency_key="new"),
        with_options(4, idempotency_key="new", owner="ann"),
        job(0, prompt="other"),
        job(5),
    ]

    assert job_store.insert_all(together) == [True, False, False, True, False, True]

    assert sorted(ids(job_store.page(limit=10))) == ids(job(number) for number in (0, 1, 4, 5))
    by_key = job_store.get_by_key("", "new")
    assert by_key is not None
    assert by_key.id == job(1).id


@pytest.mark.parametrize("refused", [False, True])
def test_jobs_that_come_together_have_the_places_of_jobs_that_come_one_by_one(
    job_store: JobStore, tmp_path: Path, *, refused: bool
) -> None:
    one_by_one = open_job_store(f"sqlite:///{tmp_path}/one-by-one.db")
    owners = itertools.cycle(["ann", "ann", "bob", ""])
    priorities = itertools.cycle(["normal", "high", "normal", "normal", "low"])
    jobs = [
        with_options(number, owner=next(owners), priority=next(priorities), work=1.0 + number % 3)
        for number in range(40)
    ]
    for store in (job_store, one_by_one):
        insert(store, *jobs[:10])
        claim(store, limit=4)
    insert(one_by_one, *jobs[10:])
    again = [job(3, prompt="other")] if refused else []

    assert job_store.insert_all([*jobs[10:25], *again, *jobs[25:]]).count(True) == 30

    order = job_store.queue("small-sfx", limit=100)
    assert order == one_by_one.queue("small-sfx", limit=100)
    by_id = {each.id: each for each in jobs}
    assert [place_of(job_store, by_id[each]) for each in order] == [*range(1, 37)]
    one_by_one.close()


def test_services_whose_jobs_and_claims_meet_do_not_lock_each_other_out(
    job_store: JobStore, store_url: str
) -> None:
    other = open_job_store(store_url)
    owners, priorities = ("ann", "bob", ""), ("low", "normal", "high")

    def submit_and_claim(worker: int) -> list[str]:
        store, choose = (job_store, other)[worker % 2], random.Random(worker)
        made = []
        for _ in range(25):
            together = [
                with_options(
                    choose.getrandbits(64),
                    owner=choose.choice(owners),
                    priority=priorities[number % 3],
                    idempotency_key=f"key {number}",
                )
                for number in choose.sample(range(40), 8)
            ]
            stored = zip(together, store.insert_all(together), strict=True)
            made += [f"{job.owner}/{job.idempotency_key}" for job, done in stored if done]
            claim(store, limit=2, now=1e20)
        return made

    with ThreadPoolExecutor(6) as threads:
        made = [key for keys_made in threads.map(submit_and_claim, range(6)) for key in keys_made]
    other.close()

    assert len(made) == len(set(made)), "of the jobs with one key one is stored"
    assert len(made) == len(job_store.page(limit=1000))


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_many_jobs_are_read_at_once_with_their_places(job_store: JobStore) -> None:
    insert(job_store, unreadable(0), *(job(number) for number in range(1, 5)))
    [held] = claim(job_store, limit=1)
    missing = job(9)

    found = job_store.snapshots(ids([job(4), missing, held, unreadable(0), job(2)]))

    assert sorted(found) == ids([unreadable(0), held, job(2), job(4)])
    assert isinstance(found[unreadable(0).id], JobStoreError)
    assert found[held.id] == JobSnapshot(held, None)
    # The one that cannot be read has its place too.
    assert found[job(2).id] == JobSnapshot(job(2), 2)
    assert found[job(4).id] == JobSnapshot(job(4), 4)
    assert job_store.snapshots([]) == {}


def test_ended_jobs_are_listed_by_age(job_store: JobStore) -> None:
    insert(job_store, *(job(number) for number in range(4)))
    first, second, third = (ended(job_store, now=2000.0 + number) for number in range(3))

    assert job_store.ended(before=2001.0, limit=10) == [first, second]
    assert job_store.ended(before=9999.0, limit=1) == [first]

    assert job_store.delete(first)
    assert job_store.ended(before=9999.0, limit=10) == [second, third]


def test_jobs_to_clean_up_are_listed_until_they_are_clean(job_store: JobStore) -> None:
    insert(job_store, *(job(number) for number in range(3)))
    [held] = claim(job_store, limit=1)
    assert job_store.replace(lifecycle.succeed(held, 1, RESULT, 2001.0))
    assert job_store.replace(lifecycle.cancel(job(2), 2001.0))
    failed = ended(job_store, now=2002.0)

    assert job_store.unclean(now=2001.9, limit=10) == []
    assert job_store.unclean(now=2002.0, limit=10) == [failed]

    once = endings.cleaned(failed, 2003.0)
    assert job_store.replace(once)
    assert job_store.unclean(now=2003.0, limit=10) == []

    later = 2002.0 + endings.CLEANUP_AGAIN_S
    assert job_store.unclean(now=later, limit=10) == [once]
    assert job_store.replace(endings.cleaned(once, later))
    assert job_store.unclean(now=99999.0, limit=10) == []


def test_webhooks_are_due_from_the_end_of_the_job_until_delivered(job_store: JobStore) -> None:
    insert(job_store, *(with_options(number, webhook_url="https://a/b") for number in range(3)))

    assert job_store.due_webhooks(now=9999.0, limit=10) == []

    first, second = ended(job_store, now=2000.0), ended(job_store, now=2001.0)
    assert job_store.due_webhooks(now=2000.5, limit=10) == [first]

    started = webhook_schedule.start_attempt(first, 2002.0)
    assert job_store.replace(started)
    assert job_store.due_webhooks(now=2002.0, limit=10) == [second]
    assert job_store.due_webhooks(now=9999.0, limit=1) == [second]

    assert job_store.replace(webhook_schedule.delivered(started, 1, 2003.0))
    assert job_store.due_webhooks(now=9999.0, limit=10) == [second]


def test_check_passes_and_changes_nothing(job_store: JobStore) -> None:
    insert(job_store, job(1))

    job_store.check()

    assert job_store.page(limit=10) == [job(1)]


def start_process(script: str, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def unreadable(number: int) -> Job:
    """As a later release might write it."""
    stored = job(number)
    request = stored.request.model_copy(update={"format": "wax cylinder"})
    return stored.model_copy(update={"request": request})


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_job_that_cannot_be_read_hinders_no_other_in_the_queue(job_store: JobStore) -> None:
    insert(job_store, unreadable(1), job(2), unreadable(3), job(4))

    assert ids(claim(job_store, limit=1)) == [job(2).id]
    assert ids(claim(job_store, limit=5)) == [job(4).id]
    assert claim(job_store) == []
    # Or workers would be told for ever that work is due.
    assert job_store.next_due("small-sfx") is None


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_job_that_cannot_be_read_hinders_no_other_in_lists(job_store: JobStore) -> None:
    for each in (unreadable(1), job(2), unreadable(3), job(4)):
        insert(job_store, each)

    assert ids(job_store.page(limit=2)) == ids([job(4), job(2)])
    assert ids(job_store.next_jobs("small-sfx", limit=1)) == [job(2).id]

    for each in (unreadable(1), job(2), unreadable(3), job(4)):
        assert job_store.replace(lifecycle.cancel(each, 2000.0 + each.created_at))
    assert ids(job_store.ended(before=9999.0, limit=1)) == [job(2).id]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_reads_of_a_page_grow_with_the_unreadable_jobs_and_not_with_their_square(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(job_store, job(0), *(unreadable(number) for number in range(1, 101)))
    decoded: list[object] = []
    decode = Job.model_validate_json
    monkeypatch.setattr(Job, "model_validate_json", lambda body: decoded.append(1) or decode(body))

    assert ids(job_store.page(limit=1)) == [job(0).id]
    assert len(decoded) < 300


def test_fields_of_a_later_release_are_ignored(job_store: JobStore) -> None:
    class LaterJob(Job):
        mood: str = "calm"

    later = LaterJob(**dict(job(1)))
    insert(job_store, later)

    assert job_store.page(limit=10) == [job(1)]
    assert claim(job_store)[0].id == job(1).id


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_job_that_cannot_be_read_is_not_said_to_be_missing(job_store: JobStore) -> None:
    insert(job_store, unreadable(1))

    with pytest.raises(JobStoreError, match=job(1).id) as refused:
        job_store.get(job(1).id)
    assert not refused.value.transient


def used(owner: str = "anna", day: str = "2026-01-31", **counts: float) -> UsageRow:
    return UsageRow.model_validate({"day": day, "owner": owner, "variant": "medium", **counts})


def test_usage_adds_up_by_day_owner_and_variant_whoever_reports(
    job_store: JobStore, store_url: str
) -> None:
    other = open_job_store(store_url)
    job_store.add_usage([used(jobs=1, audio_seconds=2.5), used(requests=2, owner="")])
    other.add_usage([used(jobs=1, clips=3, audio_seconds=0.25, accepted_seconds=7.0)])
    other.add_usage([used(accepted_seconds=-7.0), used(day="2026-02-01", gpu_seconds=0.125)])
    other.close()

    assert job_store.usage("2026-01-31", "2026-02-01", None) == [
        used(requests=2, owner=""),
        used(jobs=2, clips=3, audio_seconds=2.75),
        used(day="2026-02-01", gpu_seconds=0.125),
    ]
    assert job_store.usage("2026-01-01", "2026-01-31", "anna") == [
        used(jobs=2, clips=3, audio_seconds=2.75)
    ]
    assert job_store.usage("2026-02-02", "2026-02-28", None) == []


def test_reports_that_come_at_once_all_count(job_store: JobStore) -> None:
    rows = [used(owner=owner, jobs=1) for owner in ("anna", "ben")]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(job_store.add_usage, [rows, rows[::-1]] * 20))

    kept = job_store.usage("2026-01-31", "2026-01-31", None)
    assert [(row.owner, row.jobs) for row in kept] == [("anna", 40), ("ben", 40)]
