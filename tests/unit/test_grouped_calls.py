"""Calls that go together: who joins whom, and who hears what."""

import asyncio
import contextvars

import pytest

from sa_ray.errors import SaRayError, UnavailableError
from sa_ray.serving.ingress.grouped_calls import MAX_GROUP, GroupedCalls


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
    grouped = GroupedCalls(backend, under_way=1)
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
    grouped = GroupedCalls(backend, under_way=1)
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
    grouped = GroupedCalls(backend, under_way=1)
    first, *others = await started(grouped, 0)
    others += await started(grouped, 2, 4)

    first.cancel()
    others[0].cancel()
    backend.open.set()

    assert await others[1] == 8
    with pytest.raises(asyncio.CancelledError):
        await first
    assert backend.groups == [[0], [4]], "what nobody waits for is not sent"


async def test_a_group_has_a_limit() -> None:
    backend = Backend()
    grouped = GroupedCalls(backend, under_way=1)
    tasks = await started(grouped, *range(0, 2 * MAX_GROUP + 2, 2))
    backend.open.set()

    await asyncio.gather(*tasks)

    assert [len(group) for group in backend.groups] == [MAX_GROUP, 1]


async def test_one_call_is_under_way_as_long_as_answers_come_in_time() -> None:
    backend = Backend()
    grouped = GroupedCalls(backend, under_way=4, patience_s=60)
    tasks = await started(grouped, 0)
    tasks += await started(grouped, 2)
    tasks += await started(grouped, 4)
    backend.open.set()

    assert await asyncio.gather(*tasks) == [0, 4, 8]
    assert backend.groups == [[0], [2, 4]]


async def test_a_call_without_an_answer_does_not_hold_up_the_others() -> None:
    backend = Backend()
    grouped = GroupedCalls(backend, under_way=3, patience_s=0.001)
    tasks = []
    for number in (0, 2, 4):
        tasks += await started(grouped, number)
        async with asyncio.timeout(30):
            while backend.groups[-1:] != [[number]]:
                await asyncio.sleep(0.001)
    tasks += await started(grouped, 6)
    await asyncio.sleep(0.01)
    assert backend.groups == [[0], [2], [4]], "more are not under way at once"

    backend.open.set()
    assert await asyncio.gather(*tasks) == [0, 4, 8, 12]
    assert backend.groups == [[0], [2], [4], [6]]


request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


async def test_a_call_is_no_part_of_the_request_that_was_first() -> None:
    """Ray keeps the task that is being executed in a context variable, and cancels with it what
    it called."""
    seen = []

    async def call(numbers: list[int]) -> list[int | Exception]:
        seen.append(request.get())
        return [*numbers]

    request.set("the first")
    assert await GroupedCalls(call)(1) == 1
    assert seen == ["none"]


async def test_nobody_waits_longer_than_the_deadline_however_many_wait() -> None:
    backend = Backend()
    grouped = GroupedCalls(backend, under_way=1, deadline_s=0.01)

    outcomes = await asyncio.gather(
        *(grouped(number) for number in range(4 * MAX_GROUP)), return_exceptions=True
    )

    assert {type(outcome) for outcome in outcomes} == {UnavailableError}
    assert {outcome.retry_after_s for outcome in outcomes if isinstance(outcome, SaRayError)} == {5}
    assert len(backend.groups) == 1, "what nobody waits for is not sent"

    backend.open.set()
    assert await grouped(2) == 4


async def test_all_who_wait_hear_together_that_nobody_is_there_to_answer() -> None:
    gone = asyncio.Event()

    async def call(numbers: list[int]) -> list[int | Exception]:
        groups.append(numbers)
        await gone.wait()
        raise UnavailableError("The jobs actor is restarting.")

    groups: list[list[int]] = []
    grouped = GroupedCalls(call, under_way=1)
    tasks = await started(grouped, *range(3 * MAX_GROUP))

    gone.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {UnavailableError}
    assert len(groups) == 1
