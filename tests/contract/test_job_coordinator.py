"""The coordinator over every store: what must hold whichever keeps the jobs."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from sa_ray.contracts import JobError
from sa_ray.errors import IdempotencyConflictError
from sa_ray.jobs import JobCoordinator, JobOptions, LeaseReport, Submission, open_job_store
from sa_ray.jobs.reaper import REAP_BATCH
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator
from tests.support.clock import Clock
from tests.support.jobs import end_of, resolved

REQUEST = resolved()
KEYED = JobOptions(idempotency_key="key", fingerprint="a", webhook_url="https://example.org/")
LONG = 60.0
MAX_WAIT = 50.0
"""Less than the time without a heartbeat that is a break in the service."""


@pytest.fixture
async def coordinators(store_url: str) -> AsyncIterator[list[JobCoordinator]]:
    """Two at once on one store, as while one replaces the other."""
    both = [
        JobCoordinator(open_job_store(store_url), clock=time.time, max_queued=1000, job_ttl=0.001)
        for _ in range(2)
    ]
    yield both
    for one in both:
        await one.close()


async def test_submits_with_one_key_make_one_job_whoever_takes_them(
    coordinators: list[JobCoordinator],
) -> None:
    snapshots = await asyncio.gather(
        *(one.submit(uuid.uuid4().hex, REQUEST, KEYED) for one in coordinators for _ in range(10))
    )

    assert len({snapshot.job.id for snapshot in snapshots}) == 1
    assert [snapshot.replayed for snapshot in snapshots].count(False) == 1

    with pytest.raises(IdempotencyConflictError):
        await coordinators[0].submit(
            uuid.uuid4().hex, REQUEST, JobOptions(idempotency_key="key", fingerprint="b")
        )


async def test_a_job_is_carried_from_submit_to_removal(coordinators: list[JobCoordinator]) -> None:
    one, other = coordinators
    job_id = (await one.submit(uuid.uuid4().hex, REQUEST, KEYED)).job.id
    waiting = asyncio.create_task(end_of(one, job_id))

    [job] = await other.lease("small-sfx", "w1", 5)
    assert job.id == job_id
    assert await one.renew("w1", [LeaseReport(job_id, 1, 0.5)]) == ["held"]

    await one.fail(job_id, job.token, JobError(code="generation_failed", message="no"))
    failed = (await waiting).job
    assert failed.status == "failed"

    [unclean] = await other.unclean_jobs(10)
    assert unclean == failed

    await other.cleaned_all([unclean])
    assert await one.unclean_jobs(10) == []

    started = await asyncio.gather(*(each.start_webhooks(10) for each in (one, other, one)))
    assert [job.id for jobs in started for job in jobs] == [job_id]

    await one.webhook_delivered(job_id, 1)
    assert [expired.id for expired in await other.expired_jobs(10)] == [job_id]

    await one.forget(job_id)
    assert await one.expired_jobs(10) == []
    assert not (await one.submit(uuid.uuid4().hex, REQUEST, KEYED)).replayed


async def test_jobs_wait_no_longer_than_the_limit_but_while_nobody_serves(store_url: str) -> None:
    clock = Clock(1000.0)
    jobs = JobCoordinator(
        open_job_store(store_url), clock=clock, max_queued=5, reap_period=0.001, max_wait=MAX_WAIT
    )
    medium = resolved("medium")
    async with reaping(jobs) as have_looked:
        await jobs.renew("w1", [])
        early = (await jobs.submit(uuid.uuid4().hex, medium, KEYED)).job
        clock.now += MAX_WAIT
        await jobs.renew("w1", [])
        ended = (await end_of(jobs, early.id)).job
        late = (await jobs.submit(uuid.uuid4().hex, medium)).job

        clock.now += 100 * MAX_WAIT
        await have_looked()
        clock.now += 1
        await jobs.renew("w1", [])
        await have_looked()
        clock.now += MAX_WAIT - 2
        await jobs.renew("w1", [])
        await have_looked()
        waiting = (await jobs.get(late.id)).job
        clock.now += 2
        await jobs.renew("w1", [])
        too_late = (await end_of(jobs, late.id)).job
    await jobs.close()

    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "wait_exceeded")
    assert ended.webhook is not None
    assert ended.webhook.next_attempt_at == ended.completed_at
    assert waiting.status == "queued"
    assert too_late.status == "failed"


async def test_a_break_counts_for_no_wait_though_the_coordinator_is_started_again(
    store_url: str,
) -> None:
    clock = Clock(1000.0)

    def start() -> JobCoordinator:
        store = open_job_store(store_url)
        return JobCoordinator(store, clock=clock, max_queued=500, reap_period=0.001, max_wait=500.0)

    before = start()
    async with reaping(before) as have_looked:
        await before.renew("w1", [])
        waiting = (await before.submit(uuid.uuid4().hex, resolved("medium"))).job
        clock.now += 1
        await before.submit_all(
            [Submission(uuid.uuid4().hex, resolved("medium")) for _ in range(REAP_BATCH)]
        )
        await have_looked()
        clock.now += 399
        await before.renew("w1", [])
        await have_looked()
        await have_looked()
    await before.close()

    after = start()
    clock.now += 50
    await after.renew("w1", [])
    async with reaping(after) as have_looked:
        clock.now += 51
        await after.renew("w1", [])
        await have_looked()
        job = (await after.get(waiting.id)).job
    await after.close()

    assert (job.status, job.start_by) == ("queued", 1400.0 + 500.0)


@asynccontextmanager
async def reaping(jobs: JobCoordinator) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Run the reaper; what it yields returns after a whole round."""
    reaper = asyncio.create_task(jobs.run_reaper())

    async def have_looked() -> None:
        # A job that is overdue once a round has begun is ended by the next one.
        for _ in range(2):
            probe = JobOptions(expires_in=0.0)
            await end_of(jobs, (await jobs.submit(uuid.uuid4().hex, REQUEST, probe)).job.id)

    try:
        yield have_looked
    finally:
        reaper.cancel()


async def test_many_submits_at_once_are_leased_once_each(
    coordinators: list[JobCoordinator],
) -> None:
    ids = [uuid.uuid4().hex for _ in range(60)]
    submitted = asyncio.gather(
        *(coordinators[number % 2].submit(job_id, REQUEST) for number, job_id in enumerate(ids))
    )
    leased: list[str] = []

    async def work(coordinator: JobCoordinator) -> None:
        while len(leased) < len(ids):
            await coordinator.wait_for_work("small-sfx", 0.05)
            jobs = await coordinator.lease("small-sfx", "w1", 7)
            leased.extend(job.id for job in jobs)

    async with asyncio.timeout(LONG):
        await asyncio.gather(submitted, *(work(each) for each in coordinators))

    assert sorted(leased) == sorted(ids)


async def test_the_backlog_is_what_the_queued_jobs_of_a_variant_cost(
    coordinators: list[JobCoordinator],
) -> None:
    one, other = coordinators
    cost = Cost(batch=0, row=1, second=0, sampling=0, guidance=1)
    estimator = Estimator(cost, max_rows=4, max_seconds=60)

    assert await other.backlog("small-sfx", estimator, 10) == 0

    long = REQUEST.model_copy(update={"steps": 50})
    medium = REQUEST.model_copy(update={"model": "medium"})
    for request in (REQUEST, REQUEST, long, medium):
        await one.submit(uuid.uuid4().hex, request)

    assert await other.backlog("small-sfx", estimator, 10) == 3
    assert await other.backlog("small-sfx", estimator, 0.5) == 1.5

    await one.lease("small-sfx", "w1", 1)
    assert await other.backlog("small-sfx", estimator, 10) == 2

    for _ in range(300):
        await one.submit(uuid.uuid4().hex, REQUEST)
    assert await other.backlog("small-sfx", estimator, 10) == pytest.approx(302)
