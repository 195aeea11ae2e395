"""Group many small calls into few: a call to an actor costs more than the work of most of them."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from sa_ray.errors import UnavailableError
from sa_ray.jobs.outcomes import hand_out

A = TypeVar("A")
R = TypeVar("R")

MAX_GROUP = 64
"""Most calls that go together: pickling more would hold up the event loop."""

PATIENCE_S = 0.02
"""Time for an answer, after which the next group goes without waiting for it. So as a rule one is
under way, and the next has all that came meanwhile: the faster the answers, the more calls there
would be otherwise, each of which costs more than what it asks for."""

MAX_UNDER_WAY = 4
"""Most groups under way at once; several, so that one slow answer does not hold up all others."""

DEADLINE_S = 25.0
"""Longest wait for an answer, whatever others wait for: longer than an actor takes to be started
again on another node."""


class GroupedCalls(Generic[A, R]):
    """Sends a call at once if none is under way. Those that come meanwhile go together, when it is
    answered, or beside it if it takes longer than ``patience_s``: up to ``under_way`` at a time.

    ``call`` answers a list of arguments with a result or an error for each, in order. An exception
    that it raises is raised to all of the group, and ``UnavailableError`` to all who wait: nobody
    is there to answer them either. For one event loop.
    """

    def __init__(
        self,
        call: Callable[[list[A]], Awaitable[list[R | Exception]]],
        under_way: int = MAX_UNDER_WAY,
        deadline_s: float = DEADLINE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._call = call
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._under_way = under_way
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._calling: dict[asyncio.Task[None], float] = {}
        """Calls under way, each with the time until which the next one waits for its answer."""
        self._alarm: asyncio.TimerHandle | None = None

    async def __call__(self, argument: A) -> R:
        """Return the result for ``argument``.

        A cancelled caller withdraws an argument that is not sent yet. A call already made goes on,
        since others may have joined it. Raises ``UnavailableError`` after the deadline.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((argument, answer))
        self._send_if_due()
        try:
            async with asyncio.timeout(self._deadline_s):
                return await answer
        except TimeoutError as error:
            raise UnavailableError(
                "The job actor does not answer. Try again in 5 seconds.", retry_after_s=5
            ) from error

    def _send_if_due(self) -> None:
        if not self._waiting or len(self._calling) >= self._under_way:
            return
        loop = asyncio.get_running_loop()
        due = max(self._calling.values(), default=0.0)
        if loop.time() >= due:
            # In a context of its own: in the context of this request, Ray would take the call for
            # a part of the request, and cancel both together.
            calling = loop.create_task(self._send(), context=contextvars.Context())
            self._calling[calling] = loop.time() + self._patience_s
            calling.add_done_callback(self._answered)
        elif self._alarm is None:
            self._alarm = loop.call_at(due, self._stop_waiting)

    def _stop_waiting(self) -> None:
        self._alarm = None
        self._send_if_due()

    def _answered(self, calling: asyncio.Task[None]) -> None:
        del self._calling[calling]
        self._send_if_due()

    async def _send(self) -> None:
        group = self._next_group()
        if not group:
            return
        outcomes: list[R | Exception]
        try:
            outcomes = await self._call([argument for argument, _ in group])
        except UnavailableError as error:
            group, self._waiting = group + self._waiting, []
            outcomes = [error] * len(group)
        except Exception as error:  # noqa: BLE001 - raised again in those who wait
            outcomes = [error] * len(group)
        hand_out([answer for _, answer in group], outcomes)

    def _next_group(self) -> list[tuple[A, asyncio.Future[R]]]:
        wanted = [entry for entry in self._waiting if not entry[1].cancelled()]
        group, self._waiting = wanted[:MAX_GROUP], wanted[MAX_GROUP:]
        return group
