"""Watching jobs as an ingress replica does, over the real coordinator on SQLite."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from sa_ray.contracts import Job
from sa_ray.errors import JobNotFoundError, OverloadedError, UnavailableError
from sa_ray.jobs import (
    ChangedJobs,
    JobChange,
    JobCoordinator,
    JobOptions,
    JobSnapshot,
    LeaseReport,
    open_job_store,
)
from sa_ray.jobs.changes import ChangeLog, coarse
from sa_ray.serving.ingress.job_feed import JobFeed
from tests.support.jobs import FAULT, RESULT, feed_of, next_change, resolved

LONG = 60.0
"""Seconds; longer than any test may take, so that only a change can end the wait."""

Start = Callable[[], JobCoordinator]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts coordinators on the same file; the earlier ones are left as a kill leaves them."""
    started = []

    def start() -> JobCoordinator:
        store = open_job_store(f"sqlite:///{tmp_path}/jobs.db")
        started.append(
            JobCoordinator(store, clock=time.time, max_queued=2000, queue_refresh_s=0.001)
        )
        return started[-1]

    yield start
    for coordinator in started:
        await coordinator.close()


@pytest.fixture
def jobs(start: Start) -> JobCoordinator:
    return start()


class Calls:
    """A coordinator whose calls are counted, and which is ``away`` while a test says so."""

    def __init__(self, jobs: JobCoordinator) -> None:
        self.jobs = jobs
        self.changed_calls = 0
        self.reads: list[str] = []
        self.away = False
        self.answers = asyncio.Event()
        """Reads wait until it is set."""
        self.answers.set()

    async def changed(self, after: str | None, timeout_s: float) -> ChangedJobs:
        self._check()
        self.changed_calls += 1
        told = await self.jobs.changed(after, timeout_s)
        self._check()
        return told

    async def get(self, job_id: str) -> JobSnapshot:
        self._check()
        self.reads.append(job_id)
        await self.answers.wait()
        return await self.jobs.get(job_id)

    def _check(self) -> None:
        if self.away:
            raise UnavailableError("The jobs actor is restarting.", retry_after_s=5)


@pytest.fixture
def calls(jobs: JobCoordinator) -> Calls:
    return Calls(jobs)


@pytest.fixture
def feed(calls: Calls) -> JobFeed:
    return JobFeed(calls.changed, calls.get, limit=3000)


async def submit(jobs: JobCoordinator, options: JobOptions | None = None) -> str:
    return (await jobs.submit(uuid.uuid4().hex, resolved(), options)).job.id


async def lease_one(jobs: JobCoordinator) -> Job:
    [job] = await jobs.lease("small-sfx", "w1", 1)
    return job


async def running(jobs: JobCoordinator) -> Job:
    await submit(jobs)
    return await lease_one(jobs)


async def changes_of(changes: AsyncGenerator[JobChange | None, None]) -> JobChange:
    """The next change that a watcher hears of."""
    async with asyncio.timeout(LONG):
        while (change := await anext(changes)) is None:
            pass
    return change


async def begun(feed: JobFeed, waiting: list["asyncio.Task[JobSnapshot]"]) -> None:
    """Return once all who wait have been taken in."""
    while feed.watchers < len(waiting):
        await asyncio.sleep(0)


async def waiters(
    feed: JobFeed, job_ids: list[str], timeout_s: float = LONG
) -> list["asyncio.Task[JobSnapshot]"]:
    waiting = [asyncio.create_task(feed.end(job_id, timeout_s)) for job_id in job_ids]
    await begun(feed, waiting)
    return waiting


async def test_all_who_wait_hear_of_the_end(jobs: JobCoordinator, feed: JobFeed) -> None:
    job = await running(jobs)
    waiting = await waiters(feed, [job.id] * 20)

    await jobs.succeed(job.id, job.token, RESULT)

    assert {one.job.status for one in await asyncio.gather(*waiting)} == {"succeeded"}
    assert (await feed.end(job.id, LONG)).job.status == "succeeded"
    assert feed.watchers == 0


async def test_who_waits_hears_of_a_cancellation(jobs: JobCoordinator, feed: JobFeed) -> None:
    job_id = await submit(jobs)
    [waiting] = await waiters(feed, [job_id])

    await jobs.cancel(job_id)

    assert (await waiting).job.status == "cancelled"


async def test_the_job_is_returned_as_it_is_when_the_time_is_up(
    jobs: JobCoordinator, feed: JobFeed
) -> None:
    job = await running(jobs)

    assert (await feed.end(job.id, 0.01)).job.status == "running"


async def test_a_job_that_does_not_exist_is_not_waited_for(feed: JobFeed) -> None:
    with pytest.raises(JobNotFoundError):
        await feed.end("f" * 32, LONG)


async def test_who_watches_a_job_that_is_deleted_hears_that_there_is_none(
    jobs: JobCoordinator, calls: Calls, feed: JobFeed
) -> None:
    job_id = await submit(jobs)
    changes = feed.follow(job_id, LONG)
    await changes_of(changes)
    calls.answers.clear()
    await jobs.cancel(job_id)
    await jobs.forget(job_id)
    calls.answers.set()

    with pytest.raises(JobNotFoundError):
        assert [change async for change in changes][-1]


async def test_a_watcher_hears_that_nothing_changed(jobs: JobCoordinator, feed: JobFeed) -> None:
    job_id = await submit(jobs)

    async with aclosing(feed.follow(job_id, 0.01)) as changes:
        assert (await changes_of(changes)).snapshot == await jobs.get(job_id)
        assert await anext(changes) is None
        assert await anext(changes) is None


async def test_every_step_of_a_job_is_told_in_order(jobs: JobCoordinator, feed: JobFeed) -> None:
    ahead, job_id = await submit(jobs), await submit(jobs)
    changes = feed.follow(job_id, LONG)
    assert (await changes_of(changes)).snapshot.queue_position == 2
    seen = []

    async def step(action: Awaitable[object]) -> None:
        await action
        told = (await changes_of(changes)).snapshot
        job = told.job
        seen.append((job.status, told.queue_position, job.progress, job.cancel_requested))

    await step(jobs.cancel(ahead))
    await step(lease_one(jobs))
    await step(jobs.renew("w1", [LeaseReport(job_id, 1, 0.25)]))
    await step(jobs.release(job_id, 1))
    await step(lease_one(jobs))
    await step(jobs.cancel(job_id))
    await step(jobs.acknowledge_cancel(job_id, 2))

    assert seen == [
        ("queued", 1, 0.0, False),
        ("running", None, 0.0, False),
        ("running", None, 0.25, False),
        ("queued", 1, 0.0, False),
        ("running", None, 0.0, False),
        ("running", None, 0.0, True),
        ("cancelled", None, 0.0, True),
    ]
    with pytest.raises(StopAsyncIteration):
        await anext(changes)


async def test_a_job_that_others_overtake_tells_its_new_place(
    jobs: JobCoordinator, feed: JobFeed
) -> None:
    job_id = await submit(jobs)
    changes = feed.follow(job_id, LONG)
    assert (await changes_of(changes)).snapshot.queue_position == 1

    await submit(jobs, JobOptions(priority="high"))

    assert (await changes_of(changes)).snapshot.queue_position == 2


async def test_a_renewal_without_progress_is_no_change(
    jobs: JobCoordinator, calls: Calls, feed: JobFeed
) -> None:
    job = await running(jobs)
    await jobs.renew("w1", [LeaseReport(job.id, 1, 0.5)])
    changes = feed.follow(job.id, LONG)
    await changes_of(changes)
    reads = len(calls.reads)

    for _ in range(3):
        await jobs.renew("w1", [LeaseReport(job.id, 1, 0.5)])
    await jobs.succeed(job.id, 1, RESULT)

    assert (await changes_of(changes)).snapshot.job.status == "succeeded"
    assert len(calls.reads) == reads + 1


async def test_those_who_watch_one_job_share_one_read(
    jobs: JobCoordinator, calls: Calls, feed: JobFeed
) -> None:
    ids = [(await running(jobs)).id for _ in range(4)]
    idle = await submit(jobs)
    waiting = await waiters(feed, [*ids, idle] * 400)

    for job_id in ids:
        await jobs.succeed(job_id, 1, RESULT)
    told = await asyncio.gather(*waiting[:4])
    await jobs.cancel(idle)
    told += (await asyncio.gather(*waiting))[4:]

    statuses = [one.job.status for one in told]
    assert (statuses.count("succeeded"), statuses.count("cancelled")) == (1600, 400)
    assert len(calls.reads) < 50
    assert calls.changed_calls < 20


async def test_a_watcher_too_many_is_refused_and_a_place_is_free_again(
    jobs: JobCoordinator,
) -> None:
    feed = feed_of(jobs, limit=2)
    job_id = await submit(jobs)
    first, second = await waiters(feed, [job_id] * 2)

    with pytest.raises(OverloadedError, match="STABLE_AUDIO_MAX_WAITING_REQUESTS") as refused:
        await feed.end(job_id, LONG)
    with pytest.raises(OverloadedError):
        await anext(feed.follow(job_id, LONG))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    third = asyncio.create_task(feed.end(job_id, LONG))
    await begun(feed, [second, third])
    await jobs.cancel(job_id)

    assert refused.value.retry_after_s
    assert {one.job.status for one in await asyncio.gather(second, third)} == {"cancelled"}


async def test_who_watches_hears_of_what_happened_while_the_actor_was_replaced(
    start: Start,
) -> None:
    calls = Calls(start())
    feed = JobFeed(calls.changed, calls.get, limit=10)
    waiting = await waiters(feed, [(await running(calls.jobs)).id])
    ended = await running(calls.jobs)
    waiting += await waiters(feed, [ended.id])
    changed = asyncio.create_task(feed.end(ended.id, LONG))

    calls.jobs, first = start(), calls.jobs
    await calls.jobs.fail(ended.id, 1, FAULT)
    await submit(first)  # ends the call to the first

    assert (await waiting[1]).job.status == "failed"
    assert (await changed).job.status == "failed"
    assert not waiting[0].done()
    waiting[0].cancel()


async def test_without_an_actor_all_who_watch_fail_together_and_may_come_back(
    jobs: JobCoordinator, calls: Calls, feed: JobFeed
) -> None:
    job_ids = [await submit(jobs) for _ in range(3)]
    waiting = await waiters(feed, job_ids)

    calls.away = True
    await jobs.cancel(job_ids[0])  # ends the call
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(one) for one in outcomes] == [UnavailableError] * 3
    with pytest.raises(UnavailableError):
        await feed.end(job_ids[1], LONG)

    calls.away = False
    [waiting_again] = await waiters(feed, [job_ids[1]])
    await jobs.cancel(job_ids[1])
    assert (await waiting_again).job.status == "cancelled"


async def test_who_watches_is_told_in_time_that_the_actor_does_not_answer(
    jobs: JobCoordinator,
) -> None:
    job_id = await submit(jobs)

    async def silent(_after: str | None, _timeout_s: float) -> ChangedJobs:
        await asyncio.Event().wait()
        raise AssertionError

    feed = JobFeed(silent, jobs.get, 10, answer_s=0.01)

    for _ in range(2):
        with pytest.raises(UnavailableError) as error:
            await feed.end(job_id, LONG)
        assert error.value.retry_after_s
    assert feed.watchers == 0


async def test_a_change_is_known_again_by_what_it_shows(start: Start) -> None:
    job_id = await submit(start())
    seen = await next_change(start(), job_id)
    successor = start()

    assert (await next_change(successor, job_id)).event_id == seen.event_id

    job = await lease_one(successor)
    assert (await next_change(successor, job_id, seen.event_id)).snapshot.job == job


async def test_a_log_names_what_changed_since_and_each_once() -> None:
    log = ChangeLog()
    start = await log.after(None, LONG)
    assert start.job_ids is None

    for job_id in "abab":
        log.note(job_id)
    told = await log.after(start.cursor, LONG)

    assert told.job_ids == ("a", "b")
    assert (await log.after(told.cursor, 0.001)).job_ids == ()


async def test_a_log_that_has_forgotten_says_that_any_job_may_have_changed() -> None:
    log = ChangeLog(capacity=2)
    start = await log.after(None, LONG)

    for job_id in "ab":
        log.note(job_id)
    assert (await log.after(start.cursor, LONG)).job_ids == ("a", "b")

    log.note("c")
    assert (await log.after(start.cursor, LONG)).job_ids is None
    assert (await ChangeLog().after(start.cursor, LONG)).job_ids is None


def test_places_far_back_are_told_coarsely() -> None:
    assert [coarse(place) for place in (1, 20, 21, 57, 99, 100, 149, 1000)] == [
        1, 20, 20, 55, 95, 100, 100, 1000,
    ]  # fmt: skip
