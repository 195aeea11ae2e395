"""Leases of a dispatcher: no more than replicas can take, renewed, and handed back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sa_ray.contracts import Job, VariantName
from sa_ray.errors import GenerationError, JobStoreError
from sa_ray.serving.dispatcher.leases import MAX_PENDING_UPLOADS, Leases
from tests.support.jobs import next_change

from .dispatching import LONG, MAX_WAIT, House, answered, fails_once, house, quickly

CAPACITY: dict[VariantName, int] = {"small-sfx": 2, "medium": 1}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def leases(home: House) -> Leases:
    return Leases(
        "worker",
        CAPACITY,
        home.jobs,
        home.attempt,
        sleep=quickly,
    )


@contextmanager
def running(leases: Leases) -> Iterator[None]:
    tasks = [asyncio.create_task(loop) for loop in leases.loops()]
    try:
        yield
    finally:
        for task in tasks:
            assert not task.done()
            task.cancel()


async def test_each_clip_takes_room(home: House, leases: Leases) -> None:
    with running(leases):
        home.generator.go()
        await home.ended(await home.submit(n=2))
        home.generator.stay()
        ids = [await home.submit(n=2) for _ in range(3)]
        await home.generator.has_begun(2)
        room = leases.room("small-sfx")
        statuses = [(await home.now(job_id)).status for job_id in ids]
        home.generator.go()
        for job_id in ids:
            await home.ended(job_id)

    assert room == 0
    assert statuses == ["running", "queued", "queued"]


async def test_no_more_is_leased_than_replicas_can_take(home: House, leases: Leases) -> None:
    ids = [await home.submit() for _ in range(4)]

    with running(leases):
        await home.generator.has_begun(2)
        assert leases.room("small-sfx") == 0
        statuses = [(await home.now(job_id)).status for job_id in ids]
        home.generator.go()
        ended = [(await home.ended(job_id)).status for job_id in ids]

    assert statuses == ["running", "running", "queued", "queued"]
    assert ended == ["succeeded"] * 4


async def test_a_variant_that_gets_replicas_gets_more_jobs(home: House, leases: Leases) -> None:
    ids = [await home.submit() for _ in range(5)]

    with running(leases):
        await home.generator.has_begun(2)
        leases.resize({"small-sfx": 4})
        await home.generator.has_begun(4)
        assert leases.room("small-sfx") == 0

        leases.resize({"small-sfx": 1})
        assert leases.room("small-sfx") == -3
        asked = answered(home.jobs, "lease")
        home.generator.go()
        ended = [(await home.ended(job_id)).status for job_id in ids]

    assert ended == ["succeeded"] * 5
    assert set(asked) <= {"small-sfx"}


async def test_nothing_is_leased_if_the_room_has_gone_while_work_was_waited_for(
    home: House, leases: Leases
) -> None:
    waiting = answered(home.jobs, "lease")
    wait_for_work = home.jobs.wait_for_work

    async def shrink_meanwhile(variant: VariantName, wait_s: float) -> None:
        await wait_for_work(variant, wait_s)
        if variant == "small-sfx":
            leases.resize({"small-sfx": 0})

    home.jobs.wait_for_work = shrink_meanwhile  # type: ignore[method-assign]
    job_id = await home.submit()

    with running(leases):
        medium = await home.submit("medium")
        await home.generator.has_begun()
        assert home.generator.begun == [medium]

    assert "small-sfx" not in waiting
    assert (await home.now(job_id)).status == "queued"


async def test_a_job_whose_lease_was_lost_on_the_way_is_leased_again(
    home: House, leases: Leases
) -> None:
    job_id = await home.submit("medium")
    [lost] = await home.jobs.lease("medium", "worker", 1)
    home.generator.go()

    with running(leases):
        ended = await home.ended(job_id)

    assert (ended.status, ended.attempts, ended.token) == ("succeeded", 1, lost.token + 1)


async def test_a_worker_that_holds_nothing_renews_all_the_same(home: House, leases: Leases) -> None:
    """Or a lease whose answer was lost would stay for as long as there is no other work."""
    renewed = answered(home.jobs, "renew")

    with running(leases):
        await renewed.reaches(2)


async def test_a_full_variant_holds_up_no_other(home: House, leases: Leases) -> None:
    for _ in range(3):
        await home.submit()
    medium = await home.submit("medium")

    with running(leases):
        await home.generator.has_begun(3)

    assert medium in home.generator.begun


async def test_clips_that_are_uploaded_take_no_room(home: House, leases: Leases) -> None:
    ids = [await home.submit() for _ in range(2 * CAPACITY["small-sfx"])]
    home.uploader.answers.clear()

    with running(leases):
        await home.generator.has_begun(CAPACITY["small-sfx"])
        await asyncio.sleep(0)
        home.generator.go()
        await home.uploader.stored.reaches(len(ids))
        home.uploader.answers.set()
        ended = [(await home.ended(job_id)).status for job_id in ids]

    assert ended == ["succeeded"] * len(ids)


async def test_nothing_is_leased_while_too_many_clips_wait_for_the_store(
    home: House, leases: Leases
) -> None:
    ids = [await home.submit() for _ in range(MAX_PENDING_UPLOADS + CAPACITY["small-sfx"])]
    home.uploader.answers.clear()
    home.generator.go()

    with running(leases):
        await home.uploader.stored.reaches(MAX_PENDING_UPLOADS)
        room = [leases.room(variant) for variant in CAPACITY]
        home.uploader.answers.set()
        ended = [(await home.ended(job_id)).status for job_id in ids]

    assert room == [0, 0]
    assert ended == ["succeeded"] * len(ids)


async def test_a_failed_attempt_makes_room(home: House, leases: Leases) -> None:
    first, second = await home.submit("medium"), await home.submit("medium")
    home.generator.outcome = GenerationError("The clip could not be rendered.")

    with running(leases):
        await home.generator.has_begun()
        home.generator.go()
        ended = [(await home.ended(job_id)).status for job_id in (first, second)]

    assert ended == ["failed", "failed"]


async def test_leases_are_renewed_while_jobs_run(home: House, leases: Leases) -> None:
    job_id = await home.submit()
    renewed = answered(home.jobs, "renew")

    with running(leases):
        await home.generator.has_begun()
        [first] = home.store.heartbeats().values()
        home.later += 5
        # One may have begun before.
        await renewed.reaches(len(renewed) + 2)
        [last] = home.store.heartbeats().values()

    assert last > first + 4
    assert (await home.now(job_id)).status == "running"


async def test_leases_are_renewed_after_a_renewal_that_failed(home: House, leases: Leases) -> None:
    job_id = await home.submit()
    renewed = answered(home.jobs, "renew")
    fails_once(home.jobs, "renew", JobStoreError("The job store is away."))

    with running(leases):
        await renewed.reaches(1)

    assert (await home.now(job_id)).status == "running"


async def test_a_cancelled_job_stops_at_the_next_renewal(home: House, leases: Leases) -> None:
    job_id = await home.submit()

    with running(leases):
        await home.generator.has_begun()
        await home.jobs.cancel(job_id)
        ended = await home.ended(job_id)

    assert ended.status == "cancelled"
    assert home.generator.stopped == [job_id]


async def test_a_held_job_that_has_waited_its_time_unbegun_is_handed_back(
    home: House, leases: Leases
) -> None:
    job_id = await home.submit()
    with running(leases):
        await home.generator.has_begun()
        leased = await next_change(home.jobs, job_id)
        start_by = leased.snapshot.job.start_by
        assert start_by is not None
        home.later = MAX_WAIT + LONG

        leases.hand_back_late({"medium"}, start_by)
        leases.hand_back_late({"small-sfx"}, start_by - 1)
        await asyncio.sleep(0)
        assert home.generator.stopped == []
        leases.hand_back_late({"small-sfx"}, start_by)
        waiting = await next_change(home.jobs, job_id, leased.event_id)

    job = waiting.snapshot.job
    assert (job.status, job.attempts, job.start_by) == ("queued", 0, start_by)
    assert home.generator.stopped == [job_id]


async def test_a_paused_variant_hands_back_what_has_not_begun(home: House, leases: Leases) -> None:
    job_id = await home.submit()

    with running(leases):
        await home.generator.has_begun()
        begun = await next_change(home.jobs, job_id)
        leases.pause(frozenset({"small-sfx"}))
        paused = await next_change(home.jobs, job_id, begun.event_id)
        room = leases.room("small-sfx")
        leases.pause(frozenset())
        await home.generator.has_begun(2)

    assert (paused.snapshot.job.status, room) == ("queued", 0)
    assert home.generator.begun == [job_id, job_id]
    assert (await home.now(job_id)).attempts == 1


async def test_a_variant_that_is_paused_no_longer_is_leased_for(
    home: House, leases: Leases
) -> None:
    job_id = await home.submit()
    leases.pause(frozenset({"small-sfx"}))

    with running(leases):
        await asyncio.sleep(0)  # The loops begin, and wait.
        leases.pause(frozenset())
        await home.generator.has_begun()

    assert home.generator.begun == [job_id]


async def test_a_paused_variant_finishes_what_has_begun(home: House, leases: Leases) -> None:
    job_id = await home.submit()
    home.generator.first_progress = 0.1

    with running(leases):
        await home.generator.has_begun()
        leases.pause(frozenset({"small-sfx"}))
        home.generator.go()
        ended = await home.ended(job_id)

    assert ended.status == "succeeded"
    assert home.generator.begun == [job_id]


async def test_stopping_hands_everything_back(home: House, leases: Leases) -> None:
    ids = [await home.submit() for _ in range(2)]
    with running(leases):
        await home.generator.has_begun(2)

    await leases.hand_back()

    jobs = [await home.now(job_id) for job_id in ids]
    assert [(job.status, job.attempts) for job in jobs] == [("queued", 0)] * 2


async def test_stopping_hands_back_a_lease_whose_answer_is_under_way(
    home: House, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await home.submit()
    leased, answer = asyncio.Event(), asyncio.Event()
    lease = home.jobs.lease

    async def slowly(variant: VariantName, worker: str, limit: int) -> list[Job]:
        jobs = await lease(variant, worker, limit)
        leased.set()
        await answer.wait()
        return jobs

    monkeypatch.setattr(home.jobs, "lease", slowly)
    with running(leases):
        async with asyncio.timeout(LONG):
            await leased.wait()

    handing_back = asyncio.create_task(leases.hand_back())
    await asyncio.sleep(0)
    answer.set()
    await handing_back

    job = await home.now(job_id)
    assert (job.status, job.attempts) == ("queued", 0)


async def test_a_store_that_is_away_ends_no_loop(
    home: House, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await home.submit()
    faults = iter([RuntimeError("once"), RuntimeError("twice")])
    claim = home.store.claim

    def away(*args: object, **kwargs: object) -> object:
        for fault in faults:
            raise fault
        return claim(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(home.store, "claim", away)
    home.generator.go()

    with running(leases):
        ended = await home.ended(job_id)

    assert ended.status == "succeeded"
