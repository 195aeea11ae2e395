"""Housekeeping after the end of jobs: what it does, and what it does again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sa_ray.contracts import Job, StoredObject
from sa_ray.errors import JobNotFoundError, JobStoreError, ObjectStoreError
from sa_ray.serving.dispatcher.housekeeping import BATCH, OUTAGE_PERIOD_S, Housekeeping
from tests.support.jobs import FAULT, RESULT

from .dispatching import LONG, House, answered, fails_once, house, quickly

EIGHT_DAYS = 8 * 86_400.0


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


@contextmanager
def kept(home: House, sleep: Callable[[float], Awaitable[None]] = quickly) -> Iterator[None]:
    # Nobody downloads here.
    keeping = Housekeeping(home.jobs, home.uploader, sleep=sleep)  # type: ignore[arg-type]
    tasks = [asyncio.create_task(loop) for loop in keeping.loops()]
    try:
        yield
    finally:
        for task in tasks:
            assert not task.done()
            task.cancel()


def ids(calls: Sequence[Sequence[Job]]) -> list[list[str]]:
    return [[job.id for job in jobs] for jobs in calls]


async def unclean(home: House) -> Job:
    """A job that was cancelled while a worker had it, and an object it has left."""
    job = await home.leased()
    home.uploader.folder.mkdir(exist_ok=True)
    (home.uploader.folder / f"{job.id}.wav").write_bytes(b"stray")
    await home.jobs.cancel(job.id)
    return await home.jobs.acknowledge_cancel(job.id, job.token)


async def test_what_a_cancelled_job_left_is_deleted(home: House) -> None:
    job = await unclean(home)
    cleaned = answered(home.jobs, "cleaned_all")

    with kept(home):
        await cleaned.reaches(1)

    assert ids(cleaned) == [[job.id]]
    assert await home.jobs.unclean_jobs(1) == []
    assert home.uploader.objects() == []


async def test_a_job_that_fails_keeps_no_other_of_its_round_from_being_handled(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, other = await unclean(home), await unclean(home)
    tidy = home.uploader.tidy
    cleaned = answered(home.jobs, "cleaned_all")
    handled: list[list[Job]] = []
    round_over = asyncio.Event()

    async def tidy_others(jobs: Sequence[Job]) -> list[Exception | None]:
        outcomes = await tidy(jobs)
        refusal = ObjectStoreError("Not this one.")
        return [
            refusal if job.id == failing.id else outcome
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]

    async def sleep(seconds: float) -> None:
        if seconds == OUTAGE_PERIOD_S:
            handled.extend(cleaned)
            round_over.set()
            await asyncio.Event().wait()
        await quickly(seconds)

    monkeypatch.setattr(home.uploader, "tidy", tidy_others)

    with kept(home, sleep):
        async with asyncio.timeout(LONG):
            await round_over.wait()

    assert ids(handled) == [[other.id]]


@pytest.mark.parametrize("store", ["jobs", "objects"])
async def test_after_a_failure_the_pause_is_longer(home: House, store: str) -> None:
    await unclean(home)
    cleaned = answered(home.jobs, "cleaned_all")
    if store == "jobs":
        fails_once(home.jobs, "unclean_jobs", JobStoreError("The job store is away."))
    else:
        fails_once(home.uploader, "tidy", ObjectStoreError("The store is away."))
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await quickly(seconds)

    with kept(home, sleep):
        await cleaned.reaches(1)

    assert pauses.count(OUTAGE_PERIOD_S) == 1


async def test_a_job_goes_with_its_audio_when_its_time_is_over(home: House) -> None:
    job = await home.leased()
    home.uploader.folder.mkdir()
    (home.uploader.folder / f"{job.id}.wav").write_bytes(b"sound")
    await home.jobs.succeed(job.id, job.token, RESULT)

    home.later += EIGHT_DAYS
    forgotten = answered(home.jobs, "forget_all")

    with kept(home):
        await forgotten.reaches(1)

    with pytest.raises(JobNotFoundError):
        await home.now(job.id)
    assert home.uploader.objects() == []


async def test_a_job_stays_while_its_audio_cannot_be_deleted(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await home.leased()
    await home.jobs.succeed(job.id, job.token, RESULT)
    home.later += EIGHT_DAYS
    tried = asyncio.Event()

    async def away(*_: object) -> None:
        tried.set()
        raise ObjectStoreError("The store is away.")

    monkeypatch.setattr(home.uploader, "discard", away)

    with kept(home):
        async with asyncio.timeout(LONG):
            await tried.wait()
            tried.clear()
            await tried.wait()

    assert (await home.now(job.id)).status == "succeeded"


async def test_what_is_due_is_handled_without_a_pause(home: House) -> None:
    count = 2 * BATCH + 1
    for _ in range(count):
        await home.jobs.cancel(await home.submit())
    home.later += EIGHT_DAYS
    forgotten = answered(home.jobs, "forget_all")

    async def sleep(_: float) -> None:
        await asyncio.Event().wait()

    with kept(home, sleep):
        await forgotten.reaches(3)

    assert list(map(len, forgotten)) == [BATCH, BATCH, 1]
    assert await home.jobs.page(10) == []


async def test_a_result_out_of_reach_is_named_and_keeps_no_other_from_its_turn(
    home: House, caplog: pytest.LogCaptureFixture
) -> None:
    job = await home.leased()
    there = StoredObject(
        backend="s3", key="a/b.wav", size=4, sha256="0" * 64, location="s3://far.example/sounds"
    )
    await home.jobs.succeed(job.id, job.token, RESULT.model_copy(update={"object": there}))
    other = await home.leased()
    await home.jobs.fail(other.id, other.token, FAULT)
    home.later += EIGHT_DAYS
    forgotten = answered(home.jobs, "forget_all")

    with kept(home):
        await forgotten.reaches(1)

    assert sorted(ids(forgotten)[0]) == sorted([job.id, other.id])
    [warning] = [one for one in caplog.messages if "left behind" in one]
    assert job.id in warning
    assert "a/b.wav" in warning
    assert "s3://far.example/sounds" in warning


async def test_only_the_result_of_a_job_with_several_attempts_stays(home: House) -> None:
    first = await home.leased()
    second = await home.lost_to_another()
    home.uploader.folder.mkdir()
    for name in (f"{first.id}.wav", f"{first.id}-2.wav"):
        (home.uploader.folder / name).write_bytes(b"sound")
    stored = RESULT.object.model_copy(update={"key": f"{first.id}-2.wav"})
    await home.jobs.succeed(second.id, second.token, RESULT.model_copy(update={"object": stored}))
    cleaned = answered(home.jobs, "cleaned_all")

    with kept(home):
        await cleaned.reaches(1)

    assert home.uploader.objects() == [f"{first.id}-2.wav"]
    assert (await home.now(first.id)).status == "succeeded"
