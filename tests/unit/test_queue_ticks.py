"""Places in the queue, told on a tick: whose, when, and at what cost."""

import asyncio
from collections.abc import Sequence

from sa_ray.contracts import VariantName
from sa_ray.errors import JobStoreError
from sa_ray.jobs.changes import coarse
from sa_ray.jobs.queue_ticks import QueueTicks

TICK_S = 0.001


class Queue:
    """A queue whose reads are counted, and whose store is away for the first ``faults`` reads."""

    def __init__(self, job_ids: Sequence[str], faults: int = 0) -> None:
        self.job_ids = job_ids
        self.reads = 0
        self._faults = faults
        self._told: asyncio.Queue[str] = asyncio.Queue()
        self.ticks = QueueTicks(self._read, self._told.put_nowait, TICK_S)

    async def _read(self, variant: VariantName) -> Sequence[str]:
        assert variant == "small-sfx"
        self.reads += 1
        if self.reads <= self._faults:
            raise JobStoreError("The job store is away.")
        return self.job_ids

    def becomes(self, job_ids: Sequence[str]) -> None:
        self.job_ids = job_ids
        self.ticks.touch("small-sfx")

    async def told(self, count: int) -> list[str]:
        """Whose places are told next."""
        async with asyncio.timeout(30):
            return [await self._told.get() for _ in range(count)]


async def test_those_are_told_whose_place_is_another_now() -> None:
    queue = Queue([])
    with queue.ticks.watching():
        queue.becomes("abcd")
        assert await queue.told(4) == [*"abcd"]

        queue.becomes("abdc")
        assert await queue.told(2) == ["d", "c"]

        queue.becomes("bdc")
        assert await queue.told(3) == ["b", "d", "c"]
    await queue.ticks.close()

    assert queue.reads == 3


async def test_a_step_far_back_is_told_to_few() -> None:
    job_ids = [f"{number:03}" for number in range(1000)]
    queue = Queue(job_ids)
    with queue.ticks.watching():
        queue.becomes(job_ids)
        await queue.told(1000)

        queue.becomes(job_ids[1:])
        moved = [
            job_id
            for place, job_id in enumerate(job_ids[1:], start=1)
            if coarse(place) != coarse(place + 1)
        ]
        assert await queue.told(len(moved)) == moved
    await queue.ticks.close()

    assert moved[:19] == job_ids[1:20]
    assert len(moved) < 60


async def test_changes_during_an_outage_are_told_after_it() -> None:
    queue = Queue([], faults=2)
    with queue.ticks.watching():
        queue.becomes("ab")
        assert await queue.told(2) == ["a", "b"]
    await queue.ticks.close()

    assert queue.reads == 3


async def test_while_nobody_watches_nothing_is_read() -> None:
    queue = Queue([])
    with queue.ticks.watching():
        queue.becomes("a")
        await queue.told(1)
    queue.becomes("ba")
    await asyncio.sleep(20 * TICK_S)
    assert queue.reads == 1

    with queue.ticks.watching():
        assert await queue.told(2) == ["b", "a"]
    await queue.ticks.close()
