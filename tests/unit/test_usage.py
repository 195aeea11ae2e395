"""Usage: what is counted, when it is handed over, and that nothing counts twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sa_ray.contracts import UsageRow
from sa_ray.errors import JobStoreError
from sa_ray.jobs import JobCoordinator, JobOptions, UsageMeter, open_job_store
from tests.support.clock import Clock
from tests.support.jobs import FAULT, RESULT, resolved

DAY = "2026-01-31"
NEXT_DAY = "2026-02-01"
EVENING = 1_769_903_990.0
"""Ten seconds before the day ends."""

ANNAS = JobOptions(owner="anna")
REQUEST = resolved("medium").model_copy(update={"n": 3, "duration": 10.0})


@pytest.fixture
def clock() -> Clock:
    return Clock(EVENING)


@pytest.fixture
async def jobs(tmp_path: Path, clock: Clock) -> AsyncIterator[JobCoordinator]:
    store = open_job_store(f"sqlite:///{tmp_path}/jobs.db")
    coordinator = JobCoordinator(store, clock=clock, max_queued=100)
    yield coordinator
    await coordinator.close()


def row(day: str = DAY, **counts: float) -> UsageRow:
    return UsageRow.model_validate({"day": day, "owner": "anna", "variant": "medium", **counts})


async def submitted_and_leased(jobs: JobCoordinator, number: int = 1) -> tuple[str, int]:
    await jobs.submit(f"{number:032x}", REQUEST, ANNAS)
    [job] = await jobs.lease("medium", "w1", 1)
    return job.id, job.token


async def test_a_job_counts_on_the_day_it_is_accepted_and_its_clips_on_that_of_its_end(
    jobs: JobCoordinator, clock: Clock
) -> None:
    job_id, token = await submitted_and_leased(jobs)
    assert await jobs.audio_seconds("anna", DAY) == 30.0

    clock.now += 20
    await jobs.succeed(job_id, token, RESULT)
    await jobs.succeed(job_id, token, RESULT)

    assert await jobs.usage(DAY, NEXT_DAY, "anna") == [
        row(jobs=1, accepted_seconds=30.0),
        row(NEXT_DAY, clips=1, audio_seconds=RESULT.audio.duration),
    ]
    assert await jobs.audio_seconds("anna", DAY) == 30.0
    assert await jobs.audio_seconds("ben", DAY) == 0.0


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_a_job_without_audio_gives_back_the_seconds_it_asked_for(
    jobs: JobCoordinator, clock: Clock, end: str
) -> None:
    job_id, token = await submitted_and_leased(jobs)
    clock.now += 20
    if end == "failed":
        await jobs.fail(job_id, token, FAULT)
    else:
        await jobs.cancel(job_id)
        await jobs.acknowledge_cancel(job_id, token)

    assert await jobs.audio_seconds("anna", DAY) == 0.0
    assert await jobs.usage(DAY, NEXT_DAY, None) == [row(jobs=1)]


async def test_a_repeated_job_counts_once(jobs: JobCoordinator) -> None:
    keyed = JobOptions(owner="anna", idempotency_key="key", fingerprint="a")
    for number in range(3):
        await jobs.submit(f"{number:032x}", REQUEST, keyed)

    [counted] = await jobs.usage(DAY, DAY, "anna")
    assert counted.jobs == 1


async def test_a_repeated_report_counts_once(jobs: JobCoordinator) -> None:
    await jobs.add_usage("one", [row(requests=1)])
    await jobs.add_usage("one", [row(requests=1)])
    await jobs.add_usage("another", [row(requests=1)])

    assert await jobs.usage(DAY, DAY, None) == [row(requests=2)]


async def test_usage_outlives_the_coordinator(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    for number in range(2):
        jobs = JobCoordinator(open_job_store(url), clock=clock, max_queued=100)
        await jobs.submit(f"{number:032x}", REQUEST, ANNAS)
        await jobs.close()

    jobs = JobCoordinator(open_job_store(url), clock=clock, max_queued=100)
    assert await jobs.usage(DAY, DAY, None) == [row(jobs=2, accepted_seconds=60.0)]
    await jobs.close()


class Taker:
    """Takes reports, after as many refusals as it is told."""

    def __init__(self, refusals: int = 0) -> None:
        self.reports: list[tuple[str, list[UsageRow]]] = []
        self.taken = asyncio.Event()
        self._refusals = refusals

    async def __call__(self, report_id: str, rows: Sequence[UsageRow]) -> None:
        self.reports.append((report_id, list(rows)))
        if len(self.reports) <= self._refusals:
            raise JobStoreError("away")
        self.taken.set()


async def test_what_is_counted_is_handed_over_together_a_moment_later(clock: Clock) -> None:
    taker = Taker()
    meter = UsageMeter(taker, clock, period=0.01)
    for _ in range(100):
        meter.add("anna", "medium", requests=1, audio_seconds=0.5)

    async with asyncio.timeout(60):
        await taker.taken.wait()

    assert [rows for _, rows in taker.reports] == [[row(requests=100, audio_seconds=50.0)]]
    assert meter.counted("anna", DAY) == []


async def test_a_report_that_was_not_taken_comes_again_as_it_was(clock: Clock) -> None:
    taker = Taker(refusals=1)
    meter = UsageMeter(taker, clock)
    meter.add("anna", "medium", requests=1)
    with pytest.raises(JobStoreError):
        await meter.flush()
    meter.add("anna", "medium", requests=1)
    assert meter.counted("anna", DAY) == [row(requests=1), row(requests=1)]

    await meter.flush()

    first, again, more = taker.reports
    assert again == first
    assert more[0] != first[0]
    assert more[1] == first[1] == [row(requests=1)]
    await meter.close()
