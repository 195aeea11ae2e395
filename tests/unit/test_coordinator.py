"""The job coordinator over a real SQLite file, with a clock that the test moves."""

import asyncio
import contextlib
import itertools
import sqlite3
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sa_ray.contracts import (
    Job,
    JobError,
)
from sa_ray.errors import (
    ConflictError,
    IdempotencyConflictError,
    JobNotFoundError,
    JobStoreError,
    QueueFullError,
    StaleLeaseError,
)
from sa_ray.jobs import (
    Cursor,
    JobCoordinator,
    JobOptions,
    JobSnapshot,
    LeaseReport,
    Submission,
    endings,
    lifecycle,
    open_job_store,
)
from sa_ray.jobs.workers import UNCLAIMED_RENEWALS
from tests.support.clock import Clock
from tests.support.jobs import FAULT, RESULT, end_of, resolved

PATIENCE = 20
"""Looks at which a worker must be silent to be dead."""
JOB_TTL = 3600.0
LONG = 60.0
"""Seconds; longer than any test may take, so that only a wake-up can end the wait."""


class WatchedClock(Clock):
    """Tells a test when somebody looks at it."""

    def __init__(self) -> None:
        super().__init__(1000.0)
        self.on_look: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        self.on_look()
        # Every look is a little later, as with a real clock.
        self.now += 0.001
        return super().__call__()

    async def looked_at(self, times: int) -> None:
        loop, seen, counter = asyncio.get_running_loop(), asyncio.Event(), itertools.count(1)
        self.on_look = lambda: next(counter) >= times and loop.call_soon_threadsafe(seen.set)
        await seen.wait()
        self.on_look = lambda: None


@pytest.fixture
def clock() -> WatchedClock:
    return WatchedClock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


Start = Callable[..., JobCoordinator]


@pytest.fixture
async def start(clock: WatchedClock, database: Path) -> AsyncIterator[Start]:
    """Starts coordinators on the same file; the earlier ones are left as a kill leaves them."""
    started = []

    def start(max_queued: int = 5, busy_s: float = 30.0) -> JobCoordinator:
        store = open_job_store(f"sqlite:///{database}?timeout={busy_s}")
        started.append(
            JobCoordinator(
                store,
                clock=clock,
                max_queued=max_queued,
                lease_ttl=PATIENCE * 0.001,
                reap_period=0.001,
                job_ttl=JOB_TTL,
                queue_refresh_s=0.001,
            )
        )
        return started[-1]

    yield start
    for coordinator in started:
        await coordinator.close()


@pytest.fixture
def coordinator(start: Start) -> JobCoordinator:
    return start()


@pytest.fixture
def hasty(start: Start) -> JobCoordinator:
    """One that gives a locked file up soon."""
    return start(busy_s=0.05)


def new_id() -> str:
    return uuid.uuid4().hex


async def submit(coordinator: JobCoordinator) -> str:
    return (await coordinator.submit(new_id(), resolved())).job.id


async def lease(coordinator: JobCoordinator, limit: int = 1, wait_s: float = 0.0) -> list[Job]:
    """Lease as a worker does; with ``wait_s`` of ``LONG``, until it gets something."""
    while True:
        await coordinator.wait_for_work("small-sfx", wait_s)
        jobs = await coordinator.lease("small-sfx", "w1", limit)
        if jobs or wait_s < LONG:
            return jobs


async def lease_one(coordinator: JobCoordinator) -> Job:
    await submit(coordinator)
    [job] = await lease(coordinator)
    return job


async def until_waiting() -> None:
    """Let the tasks just started get as far as they can: they then wait in a thread or for an
    event. Which of the two is left open on purpose; both must work."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_submitted_jobs_queue_in_order(coordinator: JobCoordinator) -> None:
    first = await coordinator.submit(new_id(), resolved())
    await coordinator.submit(new_id(), resolved("medium"))
    second = await coordinator.submit(new_id(), resolved())

    assert (await coordinator.get(first.job.id)).queue_position == 1
    assert (await coordinator.get(second.job.id)).queue_position == 2

    assert [job.id for job in await lease(coordinator, limit=5)] == [first.job.id, second.job.id]
    assert (await coordinator.get(second.job.id)).queue_position is None


async def test_a_full_queue_refuses_and_names_the_setting(coordinator: JobCoordinator) -> None:
    for _ in range(5):
        await submit(coordinator)

    with pytest.raises(
        QueueFullError, match=r"small-sfx.*5 jobs.*STABLE_AUDIO_MAX_QUEUED_JOBS"
    ) as refused:
        await submit(coordinator)
    assert refused.value.retry_after_s is not None

    await lease(coordinator)
    await submit(coordinator)


async def test_a_replica_of_the_release_before_submits_what_it_knows(
    coordinator: JobCoordinator,
) -> None:
    options = object.__new__(JobOptions)
    # As unpickled: its release knew no more of the options.
    options.__setstate__(["high", None, "key", "a", "https://example.org/"])  # type: ignore[attr-defined]

    job = (await coordinator.submit(new_id(), resolved(), options)).job

    assert job.priority == "high"
    assert job.webhook is not None
    assert (job.webhook.url, job.webhook.sealed_secrets) == ("https://example.org/", None)


async def test_concurrent_submits_cannot_exceed_the_queue_limit(
    coordinator: JobCoordinator,
) -> None:
    outcomes = await coordinator.submit_all([Submission(new_id(), resolved()) for _ in range(40)])

    assert sum(isinstance(outcome, JobSnapshot) for outcome in outcomes) == 5
    assert sum(isinstance(outcome, QueueFullError) for outcome in outcomes) == 35
    assert len(await coordinator.page(40)) == 5


async def test_a_full_queue_of_one_model_refuses_none_for_another(
    coordinator: JobCoordinator,
) -> None:
    flood = [Submission(new_id(), resolved("medium")) for _ in range(40)]
    others = [Submission(new_id(), resolved()) for _ in range(5)]

    outcomes = await coordinator.submit_all([*flood, *others])

    assert sum(isinstance(outcome, JobSnapshot) for outcome in outcomes[:40]) == 5
    assert all(isinstance(outcome, JobSnapshot) for outcome in outcomes[40:])
    with pytest.raises(QueueFullError, match="small-sfx"):
        await submit(coordinator)


async def test_a_queue_is_refused_for_though_another_is_submitted_to_without_end(
    coordinator: JobCoordinator,
) -> None:
    for _ in range(5):
        await coordinator.submit(new_id(), resolved("medium"))
    full = asyncio.create_task(coordinator.submit(new_id(), resolved("medium")))

    async def resubmit(job_id: str) -> None:
        while not full.done():
            await coordinator.submit(job_id, resolved())

    await asyncio.gather(*(resubmit(new_id()) for _ in range(4)))

    assert isinstance(full.exception(), QueueFullError)


async def test_of_submits_at_once_with_one_key_one_makes_the_job_and_the_others_find_it(
    start: Start,
) -> None:
    coordinator = start(max_queued=100)
    others = [Submission(new_id(), resolved()) for _ in range(20)]
    keyed = [Submission(new_id(), resolved(), KEYED) for _ in range(20)]
    conflicting = Submission(new_id(), resolved(), replace(KEYED, fingerprint="other"))

    outcomes = await coordinator.submit_all([*others[:10], *keyed, conflicting, *others[10:]])

    repeats = [outcome for outcome in outcomes[10:30] if isinstance(outcome, JobSnapshot)]
    assert {outcome.job.id for outcome in repeats} == {repeats[0].job.id}
    assert [outcome.replayed for outcome in repeats].count(False) == 1
    assert len(repeats) == 20
    assert isinstance(outcomes[30], IdempotencyConflictError)
    assert len(await coordinator.page(200)) == 21


async def test_submits_that_come_together_fail_together_where_the_store_is_away(
    hasty: JobCoordinator, database: Path
) -> None:
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    together = [Submission(new_id(), resolved()) for _ in range(5)]

    refused = await hasty.submit_all(together)
    other.execute("ROLLBACK")

    assert all(isinstance(outcome, JobStoreError) for outcome in refused)
    assert await hasty.page(10) == []
    assert all(isinstance(outcome, JobSnapshot) for outcome in await hasty.submit_all(together))
    other.close()


async def test_a_repeat_is_found_without_queueing_anything(coordinator: JobCoordinator) -> None:
    job = (await coordinator.submit(new_id(), resolved(), KEYED)).job

    repeated = await coordinator.find_repeated(Submission(new_id(), resolved(), KEYED))
    unknown = await coordinator.find_repeated(Submission(new_id(), resolved()))

    assert repeated is not None
    assert (repeated.job, repeated.replayed) == (job, True)
    assert unknown is None
    assert len(await coordinator.page(10)) == 1


async def test_a_service_on_the_same_store_fills_the_queue_too(
    start: Start, coordinator: JobCoordinator
) -> None:
    other = start()
    await submit(coordinator)
    for _ in range(4):
        await submit(other)

    with pytest.raises(QueueFullError):
        await submit(other)
    assert (await coordinator.counts())["small-sfx"]["queued"] == 5

    await lease(coordinator)
    await submit(other)


async def test_a_repeated_submit_adds_nothing_even_to_a_full_queue(
    coordinator: JobCoordinator,
) -> None:
    job_ids = [await submit(coordinator) for _ in range(5)]

    again = await coordinator.submit(job_ids[1], resolved())
    assert again.job == (await coordinator.get(job_ids[1])).job

    [first] = await lease(coordinator)
    assert (await coordinator.submit(first.id, resolved())).job == first
    assert len(await coordinator.page(10)) == 5


async def test_an_unknown_job_is_not_found(coordinator: JobCoordinator) -> None:
    unknown = "f" * 32
    for call in (
        coordinator.get(unknown),
        coordinator.cancel(unknown),
        coordinator.forget(unknown),
        coordinator.succeed(unknown, 1, RESULT),
    ):
        with pytest.raises(JobNotFoundError):
            await call


async def test_a_job_runs_to_success(coordinator: JobCoordinator) -> None:
    job = await lease_one(coordinator)
    assert (job.status, job.attempts) == ("running", 1)

    await coordinator.succeed(job.id, job.token, RESULT)
    snapshot = await coordinator.get(job.id)
    assert (snapshot.job.status, snapshot.job.result) == ("succeeded", RESULT)

    counts = await coordinator.counts()
    assert counts["small-sfx"] == {"queued": 0, "running": 0}


async def test_lease_without_work_returns_empty_after_its_wait(
    coordinator: JobCoordinator,
) -> None:
    await coordinator.submit(new_id(), resolved("medium"))
    assert await lease(coordinator, wait_s=0.01) == []


async def test_a_submit_wakes_the_lease_that_waits_for_its_variant(
    coordinator: JobCoordinator,
) -> None:
    small = asyncio.create_task(lease(coordinator, wait_s=LONG))
    medium = asyncio.create_task(coordinator.wait_for_work("medium", LONG))
    await until_waiting()

    submitted = await submit(coordinator)

    assert [job.id for job in await small] == [submitted]
    assert not medium.done()
    medium.cancel()


async def test_waiting_leases_share_what_arrives(coordinator: JobCoordinator) -> None:
    waiting = [asyncio.create_task(lease(coordinator, wait_s=LONG)) for _ in range(3)]
    await until_waiting()

    submitted = {await submit(coordinator) for _ in range(3)}

    assert {job.id for jobs in await asyncio.gather(*waiting) for job in jobs} == submitted


async def test_a_release_wakes_a_waiting_lease_and_costs_no_attempt(
    coordinator: JobCoordinator,
) -> None:
    job = await lease_one(coordinator)
    waiting = asyncio.create_task(lease(coordinator, wait_s=LONG))
    await until_waiting()

    await coordinator.release(job.id, job.token)
    [again] = await waiting

    assert (again.id, again.attempts, again.token) == (job.id, 1, 2)


async def test_a_waiting_lease_takes_a_job_when_its_backoff_is_over(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    job = await lease_one(coordinator)
    waiting_again = await coordinator.retry(job.id, job.token, FAULT)

    assert await lease(coordinator) == []

    clock.now = waiting_again.not_before - 0.01
    [again] = await lease(coordinator, wait_s=LONG)

    assert (again.id, again.attempts) == (job.id, 2)
    assert clock.now >= waiting_again.not_before


async def test_waiters_hear_of_an_end_whose_reporter_went_away(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    job = await lease_one(coordinator)
    waiting = asyncio.create_task(end_of(coordinator, job.id))
    in_thread, proceed = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    clock.on_look = lambda: loop.call_soon_threadsafe(in_thread.set) and proceed.wait(LONG)

    reporter = asyncio.create_task(coordinator.fail(job.id, job.token, FAULT))
    await in_thread.wait()
    reporter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reporter

    proceed.set()
    assert (await waiting).job.status == "failed"


async def test_a_cancelled_queued_job_is_never_leased(coordinator: JobCoordinator) -> None:
    job_id = await submit(coordinator)

    assert (await coordinator.cancel(job_id)).status == "cancelled"
    assert await lease(coordinator) == []

    with pytest.raises(ConflictError):
        await coordinator.cancel(job_id)


async def test_the_worker_of_a_cancelled_job_is_told_and_acknowledges(
    coordinator: JobCoordinator,
) -> None:
    job = await lease_one(coordinator)

    asked = await coordinator.cancel(job.id)
    assert (asked.status, asked.cancel_requested) == ("running", True)
    assert (await coordinator.cancel(job.id)).version == asked.version

    report = LeaseReport(job.id, job.token, 0.5)
    assert await coordinator.renew("w1", [report]) == ["cancel"]

    assert (await coordinator.acknowledge_cancel(job.id, job.token)).status == "cancelled"
    assert await coordinator.renew("w1", [report]) == ["lost"]


@pytest.mark.parametrize("_round", range(5))
async def test_success_and_cancel_racing_have_one_outcome(
    coordinator: JobCoordinator, _round: int
) -> None:
    job = await lease_one(coordinator)

    ended, cancelled = await asyncio.gather(
        coordinator.succeed(job.id, job.token, RESULT),
        coordinator.cancel(job.id),
        return_exceptions=True,
    )

    assert isinstance(ended, Job)
    assert (await coordinator.get(job.id)).job == ended
    if ended.status == "succeeded":
        assert isinstance(cancelled, ConflictError)
    else:
        assert (ended.status, ended.result) == ("cancelled", None)
        assert isinstance(cancelled, Job)


async def test_many_racing_reports_of_one_lease_have_one_outcome(
    coordinator: JobCoordinator,
) -> None:
    job = await lease_one(coordinator)
    errors = [JobError(code="test", message=str(number)) for number in range(10)]

    ended = await asyncio.gather(*(coordinator.fail(job.id, job.token, error) for error in errors))
    final = (await coordinator.get(job.id)).job

    assert final.version == job.version + 1
    assert ended == [final] * 10


KEYED = JobOptions(idempotency_key="key", fingerprint="a")


async def test_a_submit_with_a_known_key_returns_the_job_it_made_before(
    coordinator: JobCoordinator,
) -> None:
    first = await coordinator.submit(new_id(), resolved(), KEYED)
    assert not first.replayed

    again = await coordinator.submit(new_id(), resolved(), KEYED)
    assert again == JobSnapshot(first.job, None, replayed=True)

    # The call itself repeated, as after a lost answer, is no replay.
    assert await coordinator.submit(first.job.id, resolved(), KEYED) == first
    assert len(await coordinator.page(10)) == 1


async def test_a_known_key_with_another_request_is_refused(coordinator: JobCoordinator) -> None:
    await coordinator.submit(new_id(), resolved(), KEYED)
    with pytest.raises(IdempotencyConflictError):
        await coordinator.submit(
            new_id(), resolved(), JobOptions(idempotency_key="key", fingerprint="b")
        )


async def test_a_full_queue_still_replays(coordinator: JobCoordinator) -> None:
    first = await coordinator.submit(new_id(), resolved(), KEYED)
    for _ in range(4):
        await submit(coordinator)

    again = await coordinator.submit(new_id(), resolved(), KEYED)

    assert (again.job, again.replayed) == (first.job, True)


async def test_concurrent_submits_with_one_key_make_one_job(coordinator: JobCoordinator) -> None:
    snapshots = await asyncio.gather(
        *(coordinator.submit(new_id(), resolved(), KEYED) for _ in range(20))
    )

    assert len({snapshot.job.id for snapshot in snapshots}) == 1
    assert [snapshot.replayed for snapshot in snapshots].count(False) == 1


async def test_a_key_is_free_again_once_its_job_is_forgotten(coordinator: JobCoordinator) -> None:
    first = await coordinator.submit(new_id(), resolved(), KEYED)
    await coordinator.cancel(first.job.id)

    assert (await coordinator.submit(new_id(), resolved(), KEYED)).job.status == "cancelled"

    await coordinator.forget(first.job.id)
    assert not (await coordinator.submit(new_id(), resolved(), KEYED)).replayed


async def test_high_priority_is_leased_first(coordinator: JobCoordinator) -> None:
    normal = await submit(coordinator)
    high = await coordinator.submit(new_id(), resolved(), JobOptions(priority="high"))

    assert (await coordinator.get(high.job.id)).queue_position == 1
    assert [job.id for job in await lease(coordinator, limit=5)] == [high.job.id, normal]


async def test_the_worker_of_a_job_past_its_deadline_is_told_to_stop(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    await coordinator.submit(new_id(), resolved(), JobOptions(expires_in=10.0))
    [job] = await lease(coordinator)
    report = LeaseReport(job.id, job.token, 0.5)

    assert await coordinator.renew("w1", [report]) == ["held"]

    clock.now += 10.0
    assert await coordinator.renew("w1", [report]) == ["cancel"]

    ended = await coordinator.acknowledge_cancel(job.id, job.token)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "deadline_exceeded")


async def test_the_reaper_ends_waiting_jobs_at_their_deadline(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    late = await coordinator.submit(new_id(), resolved(), JobOptions(expires_in=10.0))
    other = await submit(coordinator)
    clock.now += 10.0

    async with reaping(coordinator):
        ended = (await end_of(coordinator, late.job.id)).job

    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "deadline_exceeded")
    assert (await coordinator.get(other)).queue_position == 1


async def test_jobs_without_a_result_are_cleaned_up_twice(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    job = await lease_one(coordinator)

    await coordinator.cancel(job.id)
    assert await coordinator.unclean_jobs(10) == []

    ended = await coordinator.succeed(job.id, job.token, RESULT)
    assert (ended.status, ended.result) == ("cancelled", None)
    assert await coordinator.unclean_jobs(10) == [ended]

    await coordinator.cleaned_all(await coordinator.unclean_jobs(10))
    assert await coordinator.unclean_jobs(10) == []

    clock.now += endings.CLEANUP_AGAIN_S
    assert [each.id for each in await coordinator.unclean_jobs(10)] == [job.id]

    await coordinator.cleaned_all(await coordinator.unclean_jobs(10))
    assert await coordinator.unclean_jobs(10) == []


async def test_ended_jobs_expire_after_their_time_to_live(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    job = await lease_one(coordinator)
    await coordinator.fail(job.id, job.token, FAULT)
    await submit(coordinator)

    clock.now += JOB_TTL - 1.0
    assert await coordinator.expired_jobs(10) == []

    clock.now += 1.0
    assert [each.id for each in await coordinator.expired_jobs(10)] == [job.id]

    await coordinator.forget(job.id)
    assert await coordinator.expired_jobs(10) == []


async def test_a_webhook_is_handed_out_once_and_again_after_a_failure(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    options = JobOptions(webhook_url="https://example.org/hook")
    job_id = (await coordinator.submit(new_id(), resolved(), options)).job.id

    assert await coordinator.start_webhooks(10) == []

    await coordinator.cancel(job_id)
    handed_out = await asyncio.gather(*(coordinator.start_webhooks(10) for _ in range(5)))
    [job] = [job for jobs in handed_out for job in jobs]
    assert job.webhook is not None
    assert (job.id, job.webhook.attempts) == (job_id, 1)

    await coordinator.webhook_failed(job_id, 1, "HTTP 500")
    assert await coordinator.start_webhooks(10) == []

    clock.now += 6.0
    [again] = await coordinator.start_webhooks(10)
    assert again.webhook is not None
    assert again.webhook.attempts == 2

    delivered = await coordinator.webhook_delivered(job_id, 2)
    assert delivered.webhook is not None
    assert delivered.webhook.delivered_at is not None

    clock.now += 1e6
    assert await coordinator.start_webhooks(10) == []


async def test_forget_removes_ended_jobs_only(coordinator: JobCoordinator) -> None:
    job = await lease_one(coordinator)

    with pytest.raises(ConflictError):
        await coordinator.forget(job.id)

    await coordinator.succeed(job.id, job.token, RESULT)
    await coordinator.forget(job.id)

    with pytest.raises(JobNotFoundError):
        await coordinator.get(job.id)
    with pytest.raises(JobNotFoundError):
        await coordinator.forget(job.id)


async def test_renewals_are_judged_in_order(coordinator: JobCoordinator) -> None:
    held = await lease_one(coordinator)
    cancelled = await lease_one(coordinator)
    await coordinator.cancel(cancelled.id)
    queued = await submit(coordinator)
    reports = [
        LeaseReport("f" * 32, 1, 0.1),
        LeaseReport(cancelled.id, 1, 0.1),
        LeaseReport(queued, 1, 0.1),
        LeaseReport(held.id, 2, 0.1),
        LeaseReport(held.id, 1, 0.1),
    ]

    assert await coordinator.renew("w1", reports) == ["lost", "cancel", "lost", "lost", "held"]


async def test_progress_shows_in_reads_and_never_goes_back_within_an_attempt(
    coordinator: JobCoordinator,
) -> None:
    job = await lease_one(coordinator)

    async def progress_after(token: int, reported: float) -> float:
        await coordinator.renew("w1", [LeaseReport(job.id, token, reported)])
        [listed] = await coordinator.page(10)
        shown = (await coordinator.get(job.id)).job.progress
        assert listed.job.progress == shown
        return shown

    assert [await progress_after(1, value) for value in (0.5, 0.25, 7.0)] == [0.5, 0.5, 1.0]

    await coordinator.release(job.id, 1)
    assert (await coordinator.get(job.id)).job.progress == 0.0

    await lease(coordinator)
    assert await progress_after(2, 0.1) == 0.1

    # The first worker is slow to hear that it lost the job.
    assert await progress_after(1, 0.9) == 0.1


async def test_a_report_under_an_old_lease_is_refused(
    coordinator: JobCoordinator,
) -> None:
    job = await lease_one(coordinator)
    await coordinator.release(job.id, 1)
    [again] = await lease(coordinator)

    for report in (
        coordinator.succeed(job.id, 1, RESULT),
        coordinator.fail(job.id, 1, FAULT),
        coordinator.retry(job.id, 1, FAULT),
        coordinator.release(job.id, 1),
        coordinator.acknowledge_cancel(job.id, 1),
    ):
        with pytest.raises(StaleLeaseError):
            await report

    assert (await coordinator.get(job.id)).job == again


async def test_repeated_reports_return_what_the_first_one_did(
    coordinator: JobCoordinator,
) -> None:
    succeeded, failed, retried, released = [await lease_one(coordinator) for _ in range(4)]
    for _ in range(2):
        assert (await coordinator.succeed(succeeded.id, 1, RESULT)).version == 2
        assert (await coordinator.fail(failed.id, 1, FAULT)).version == 2
        assert (await coordinator.retry(retried.id, 1, FAULT)).version == 2
        assert (await coordinator.release(released.id, 1)).version == 2


async def test_faults_of_the_infrastructure_end_the_job_after_the_last_attempt(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    job_id = await submit(coordinator)
    for attempt in range(1, lifecycle.MAX_ATTEMPTS + 1):
        [job] = await lease(coordinator)
        assert job.attempts == attempt
        ended = await coordinator.retry(job_id, job.token, FAULT)
        clock.now += 100.0

    assert ended.status == "failed"
    assert await lease(coordinator) == []


@contextlib.asynccontextmanager
async def reaping(coordinator: JobCoordinator) -> AsyncIterator[None]:
    reaper = asyncio.create_task(coordinator.run_reaper())
    await until_waiting()
    try:
        yield
        assert not reaper.done()
    finally:
        reaper.cancel()


async def until_reaped(coordinator: JobCoordinator, job_id: str) -> Job:
    while (job := (await coordinator.get(job_id)).job).status == "running":
        await asyncio.sleep(0.001)
    return job


async def test_a_silent_workers_job_goes_to_others_and_is_given_up_after_many(
    coordinator: JobCoordinator, clock: WatchedClock
) -> None:
    job_id = await submit(coordinator)
    waiting = asyncio.create_task(end_of(coordinator, job_id))

    async with reaping(coordinator):
        for losses in range(1, lifecycle.MAX_LOSSES + 1):
            [job] = await lease(coordinator)
            # The death of a worker says nothing against the job.
            assert (job.id, job.attempts) == (job_id, 1)
            reaped = await until_reaped(coordinator, job_id)
            assert reaped.losses == losses
            clock.now = max(clock.now, reaped.not_before)
        ended = (await waiting).job

    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "attempts_exhausted"


async def renewing_until(
    coordinator: JobCoordinator, job: Job, done: Callable[[], Awaitable[bool]]
) -> None:
    """Renew as the worker of ``job``, and check that it never loses it."""
    while not await done():
        report = LeaseReport(job.id, job.token, 0.5)
        assert await coordinator.renew("w1", [report]) == ["held"]


async def test_the_reaper_spares_workers_that_call(coordinator: JobCoordinator) -> None:
    kept = await lease_one(coordinator)
    await submit(coordinator)
    [lost] = await coordinator.lease("small-sfx", "w2", 1)

    async def is_reaped() -> bool:
        return (await coordinator.get(lost.id)).job.status == "queued"

    async with reaping(coordinator):
        await renewing_until(coordinator, kept, is_reaped)

    with pytest.raises(StaleLeaseError):
        await coordinator.succeed(lost.id, lost.token, RESULT)
    assert (await coordinator.succeed(kept.id, kept.token, RESULT)).status == "succeeded"


@pytest.mark.parametrize("step", [15.0, 86_400.0, -86_400.0])
async def test_a_step_of_the_clock_costs_nobody_a_lease(
    coordinator: JobCoordinator, clock: WatchedClock, step: float
) -> None:
    job = await lease_one(coordinator)

    async with reaping(coordinator):
        clock.now += step
        looks = itertools.count()

        async def have_passed() -> bool:
            return next(looks) > 3 * PATIENCE

        await renewing_until(coordinator, job, have_passed)
        # A worker that dies after a step back is found no later.
        assert (await until_reaped(coordinator, job.id)).status == "queued"


async def test_a_worker_that_cannot_renew_because_of_the_store_keeps_its_jobs(
    hasty: JobCoordinator, database: Path
) -> None:
    job = await lease_one(hasty)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    report = LeaseReport(job.id, job.token, 0.5)

    async with reaping(hasty):
        for _ in range(2 * PATIENCE):
            with pytest.raises(JobStoreError, match="locked"):
                await hasty.renew("w1", [report])
        other.execute("ROLLBACK")
        assert await hasty.renew("w1", [report]) == ["held"]

    other.close()


async def test_workers_of_another_coordinator_on_the_store_are_spared(start: Start) -> None:
    first, second = start(), start()
    job = await lease_one(first)
    looks = itertools.count()

    async def have_passed() -> bool:
        return next(looks) > 3 * PATIENCE

    async with reaping(second):
        await renewing_until(first, job, have_passed)
        assert (await until_reaped(first, job.id)).status == "queued"


async def test_a_flood_of_submits_costs_no_worker_its_leases(start: Start) -> None:
    coordinator = start(max_queued=10_000)
    job = await lease_one(coordinator)

    flood = [Submission(new_id(), resolved()) for _ in range(2000)]

    async with reaping(coordinator), asyncio.TaskGroup() as group:
        submits = group.create_task(coordinator.submit_all(flood))

        async def is_over() -> bool:
            return submits.done()

        await renewing_until(coordinator, job, is_over)


async def test_a_lease_that_its_worker_never_heard_of_is_handed_back(
    coordinator: JobCoordinator,
) -> None:
    known = await lease_one(coordinator)
    unheard = await lease_one(coordinator)
    report = LeaseReport(known.id, known.token, 0.5)

    for _ in range(UNCLAIMED_RENEWALS - 1):
        assert await coordinator.renew("w1", [report]) == ["held"]
    assert (await coordinator.get(unheard.id)).job.status == "running"

    assert await coordinator.renew("w1", [report]) == ["held"]
    handed_back = (await coordinator.get(unheard.id)).job
    assert (handed_back.status, handed_back.attempts) == ("queued", 0)


async def test_a_lease_whose_answer_may_be_on_its_way_is_kept(
    coordinator: JobCoordinator,
) -> None:
    job = await lease_one(coordinator)

    for _ in range(3 * UNCLAIMED_RENEWALS):
        await coordinator.renew("w1", [], leasing=True)

    assert (await coordinator.get(job.id)).job == job


async def test_a_lease_that_cannot_be_read_hides_no_verdict(
    coordinator: JobCoordinator, database: Path
) -> None:
    known = await lease_one(coordinator)
    damaged = await lease_one(coordinator)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("UPDATE jobs SET body = '{}' WHERE id = ?", (damaged.id,))
    report = LeaseReport(known.id, known.token, 0.5)

    for _ in range(UNCLAIMED_RENEWALS + 2):
        assert await coordinator.renew("w1", [report]) == ["held"]
    await coordinator.cancel(known.id)
    assert await coordinator.renew("w1", [report]) == ["cancel"]


async def test_a_lease_that_is_reported_again_is_kept(coordinator: JobCoordinator) -> None:
    job = await lease_one(coordinator)
    report = LeaseReport(job.id, job.token, 0.5)

    for _ in range(3):
        for _ in range(UNCLAIMED_RENEWALS - 1):
            await coordinator.renew("w1", [])
        assert await coordinator.renew("w1", [report]) == ["held"]


async def test_errors_of_the_store_reach_the_caller(hasty: JobCoordinator, database: Path) -> None:
    job = await lease_one(hasty)
    await hasty.check()
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    for call in (
        hasty.submit(new_id(), resolved()),
        lease(hasty),
        hasty.renew("w1", [LeaseReport(job.id, 1, 0.5)]),
        hasty.succeed(job.id, 1, RESULT),
        hasty.check(),
    ):
        with pytest.raises(JobStoreError):
            await call

    other.execute("ROLLBACK")
    other.close()
    assert (await hasty.succeed(job.id, 1, RESULT)).status == "succeeded"


async def test_a_successor_on_the_same_store_carries_on(start: Start) -> None:
    first = start()
    running = await lease_one(first)
    cancelling = await lease_one(first)
    await first.cancel(cancelling.id)
    queued = await submit(first)

    successor = start()
    reports = [LeaseReport(running.id, 1, 0.5), LeaseReport(cancelling.id, 1, 0.5)]

    assert await successor.renew("w1", reports) == ["held", "cancel"]
    assert (await successor.succeed(running.id, 1, RESULT)).status == "succeeded"
    assert (await successor.acknowledge_cancel(cancelling.id, 1)).status == "cancelled"
    assert [job.id for job in await lease(successor, limit=5)] == [queued]


async def test_pages_go_from_the_newest_to_the_oldest(coordinator: JobCoordinator) -> None:
    submitted = [await submit(coordinator) for _ in range(3)]

    newest = await coordinator.page(2)
    last = newest[-1].job
    oldest = await coordinator.page(2, after=Cursor(last.created_at, last.id))

    assert [each.job.id for each in [*newest, *oldest]] == submitted[::-1]
    assert await coordinator.page(2, status="running") == []


async def test_a_page_without_prompts_is_the_same_but_for_them(
    coordinator: JobCoordinator,
) -> None:
    await submit(coordinator)
    [whole], [brief] = await coordinator.page(1), await coordinator.page(1, prompts=False)

    assert whole.job.request.prompt
    assert not brief.job.request.prompt
    assert brief.job == whole.job.without_prompts()
    assert brief.job.request.seed == whole.job.request.seed
