"""Calls that go together: who joins whom, and who hears what."""

import asyncio

import pytest

from sa_ray.serving.grouping import MAX_GROUP, GroupedCalls


class Backend:
    """Doubles numbers and refuses odd ones, once ``open`` is set."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()

    async def __call__(self, numbers: list[int]) -> list[int | Exception]:
        self.groups.append(numbers)
        await self.open.wait()
        if 13 in numbers:
            raise ConnectionError("13")
        return [ValueError(str(n)) if n % 2 else 2 * n for n in numbers]


async def started(grouped: GroupedCalls[int, int], *numbers: int) -> list["asyncio.Task[int]"]:
    tasks = [asyncio.ensure_future(grouped(number)) for number in numbers]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_calls_made_meanwhile_go_together_and_each_gets_its_own_answer() -> None:
    backend = Backend()
    grouped = GroupedCalls(backend)
    tasks = await started(grouped, 0)
    tasks += await started(grouped, 2, 3, 4)
    assert backend.groups == [[0]]

    backend.open.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert backend.groups == [[0], [2, 3, 4]]
    assert [outcomes[0], outcomes[1], outcomes[3]] == [0, 4, 8]
    assert isinstance(outcomes[2], ValueError)
    assert await grouped(6) == 12
    assert backend.groups[2:] == [[6]]


async def test_a_failed_call_is_told_to_its_group_and_no_other() -> None:
    backend = Backend()
    grouped = GroupedCalls(backend)
    tasks = await started(grouped, 2)
    tasks += await started(grouped, 13, 4)
    backend.open.set()

    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert outcomes[0] == 4
    assert [type(outcome) for outcome in outcomes[1:]] == [ConnectionError, ConnectionError]
    with pytest.raises(ValueError, match="5"):
        await grouped(5)


async def test_who_gives_up_takes_nobody_along() -> None:
    backend = Backend()
    grouped = GroupedCalls(backend)
    first, *others = await started(grouped, 0)
    others += await started(grouped, 2, 4)
    first.cancel()
    others[0].cancel()
    backend.open.set()

    assert await others[1] == 8
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_group_has_a_limit() -> None:
    backend = Backend()
    grouped = GroupedCalls(backend)
    tasks = await started(grouped, *range(0, 2 * MAX_GROUP + 2, 2))
    backend.open.set()

    await asyncio.gather(*tasks)

    assert [len(group) for group in backend.groups] == [MAX_GROUP, 1]
