"""Leases of a dispatcher: no more than replicas can take, renewed, and handed back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sa_ray.contracts import VariantName
from sa_ray.serving.dispatcher.leases import Leases

from .dispatching import LONG, House, house, quickly

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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0.005)


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


async def test_a_full_variant_holds_up_no_other(home: House, leases: Leases) -> None:
    for _ in range(3):
        await home.submit()
    medium = await home.submit("medium")

    with running(leases):
        await home.generator.has_begun(3)

    assert medium in home.generator.begun


async def test_leases_are_renewed_while_jobs_run(home: House, leases: Leases) -> None:
    job_id = await home.submit()

    with running(leases):
        await home.generator.has_begun()
        first = (await home.now(job_id)).lease
        assert first is not None
        home.later += 5
        async with asyncio.timeout(LONG):
            while (lease := (await home.now(job_id)).lease) == first:
                await asyncio.sleep(0.005)

    assert lease is not None
    assert lease.token == first.token
    assert lease.expires_at > first.expires_at + 4


async def test_a_cancelled_job_stops_at_the_next_renewal(home: House, leases: Leases) -> None:
    job_id = await home.submit()

    with running(leases):
        await home.generator.has_begun()
        await home.jobs.cancel(job_id)
        ended = await home.ended(job_id)

    assert ended.status == "cancelled"
    assert home.generator.stopped == [job_id]


async def test_a_paused_variant_hands_back_what_has_not_begun(home: House, leases: Leases) -> None:
    job_id = await home.submit()

    with running(leases):
        await home.generator.has_begun()
        leases.pause(frozenset({"small-sfx"}))
        await until(lambda: home.generator.stopped == [job_id])
        assert leases.room("small-sfx") == 0
        leases.pause(frozenset())
        await home.generator.has_begun(2)

    assert home.generator.begun == [job_id, job_id]
    assert (await home.now(job_id)).attempts == 1


async def test_stopping_hands_everything_back(home: House, leases: Leases) -> None:
    ids = [await home.submit() for _ in range(2)]
    with running(leases):
        await home.generator.has_begun(2)

    await leases.hand_back()

    jobs = [await home.now(job_id) for job_id in ids]
    assert [(job.status, job.attempts) for job in jobs] == [("queued", 0)] * 2


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
