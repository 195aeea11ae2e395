"""Many small calls as few larger ones: a call to an actor costs more than what most of them do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")

MAX_GROUP = 64
"""Most calls that go together: more would hold up the event loop to pickle them."""


class GroupedCalls(Generic[A, R]):
    """Calls made while one is under way go together in the next; a lone one goes at once.

    ``call`` answers a list of arguments with a result or an error for each, in order; what it
    raises is raised to all of the group. For one event loop.
    """

    def __init__(self, call: Callable[[list[A]], Awaitable[list[R | Exception]]]) -> None:
        self._call = call
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def __call__(self, argument: A) -> R:
        """The result for ``argument``. Cancelling the caller does not cancel the call, which
        others may have joined."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((argument, answer))
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_until_none_waits())
        return await answer

    async def _call_until_none_waits(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
            outcomes: list[R | Exception]
            try:
                outcomes = await self._call([argument for argument, _ in group])
            except Exception as error:  # noqa: BLE001 - raised again in those who wait
                outcomes = [error] * len(group)
            for (_, answer), outcome in zip(group, outcomes, strict=True):
                if answer.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    answer.set_exception(outcome)
                else:
                    answer.set_result(outcome)
        self._calling = None
