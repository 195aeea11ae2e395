"""Calls of named actors through their restarts, with actors and a clock that the test moves."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectStoreFullError, RayTaskError

from sa_ray.errors import InfrastructureError, JobNotFoundError, UnavailableError
from sa_ray.serving.actors.client import (
    CALL_TIMEOUT_S,
    PATIENCE_S,
    ActorProxy,
    RestartingActor,
)
from tests.support.clock import Clock

Answer = object | Exception

SILENCE = object()
"""An answer that never comes."""


class Method:
    def __init__(self, answers: list[Answer], calls: list[tuple[Any, ...]]) -> None:
        self._answers = answers
        self._calls = calls

    async def remote(self, *args: Any, **kwargs: Any) -> Any:
        self._calls.append((*args, kwargs) if kwargs else args)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is SILENCE:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Handle:
    """An actor handle whose method ``greet`` gives ``answers``, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.greet = Method(list(answers), self.calls)


class Greeter(Protocol):
    async def greet(self, name: str) -> str: ...


def died() -> ActorDiedError:
    return ActorDiedError()


def away() -> ActorUnavailableError:
    return ActorUnavailableError("restarting", b"0" * 16)


@pytest.fixture
def clock() -> Clock:
    return Clock()


Restarting = Callable[..., RestartingActor]


@pytest.fixture
def restarting(clock: Clock) -> Restarting:
    """An actor that is found as each of the given handles in turn."""

    def make(*handles: Handle) -> RestartingActor:
        left = list(handles)
        return RestartingActor("jobs", lambda: left.pop(0), clock=clock, sleep=clock.sleep)

    return make


async def test_a_call_returns_what_the_method_returns(restarting: Restarting) -> None:
    handle = Handle("hello")

    answer = await restarting(handle).call("greet", 1.0, "you", loud=True)

    assert answer == "hello"
    assert handle.calls == [("you", {"loud": True})]


async def test_a_restarting_actor_is_called_again(restarting: Restarting, clock: Clock) -> None:
    handle = Handle(away(), away(), "hello")

    assert await restarting(handle).call("greet", None) == "hello"

    assert len(handle.calls) == 3
    assert clock.now > 0


async def test_a_dead_actor_is_looked_for_again(restarting: Restarting) -> None:
    actor = restarting(Handle("hello", died()), Handle("hello again"))
    await actor.call("greet", None)

    assert await actor.call("greet", None) == "hello again"


async def test_callers_at_the_same_time_look_for_the_actor_once() -> None:
    found: list[Handle] = []

    def find() -> Handle:
        found.append(Handle("hello"))
        return found[-1]

    actor = RestartingActor("jobs", find)

    answers = await asyncio.gather(actor.call("greet", None, "you"), actor.call("greet", None, "I"))

    assert answers == ["hello", "hello"]
    assert [handle.calls for handle in found] == [[("you",), ("I",)]]


async def test_an_actor_that_stays_away_is_given_up(restarting: Restarting, clock: Clock) -> None:
    with pytest.raises(UnavailableError, match="is restarting") as refusal:
        await restarting(Handle(away())).call("greet", None)

    assert refusal.value.retry_after_s == 5
    assert PATIENCE_S <= clock.now < PATIENCE_S + 1


async def test_an_actor_that_is_silent_is_not_called_again(restarting: Restarting) -> None:
    handle = Handle(SILENCE)

    with pytest.raises(UnavailableError, match="does not answer"):
        async with asyncio.timeout(10):
            await restarting(handle).call("greet", 0.01)

    assert len(handle.calls) == 1


async def test_errors_of_the_method_come_out_as_they_were_raised(restarting: Restarting) -> None:
    cause = JobNotFoundError("There is no job 1.")
    handle = Handle(RayTaskError("greet", "traceback", cause))

    with pytest.raises(JobNotFoundError, match="no job 1"):
        await restarting(handle).call("greet", None)


async def test_other_faults_of_ray_are_infrastructure_faults(restarting: Restarting) -> None:
    with pytest.raises(InfrastructureError):
        await restarting(Handle(ObjectStoreFullError())).call("greet", None)


async def test_a_proxy_has_the_methods_of_its_protocol_and_no_others(
    restarting: Restarting,
) -> None:
    handle = Handle("hello")
    proxy = ActorProxy(restarting(handle), Greeter)
    greet: Callable[[str], Awaitable[Any]] = proxy.within(None).greet

    assert await greet("you") == "hello"

    assert handle.calls == [("you",)]
    with pytest.raises(AttributeError, match="Greeter has no shout"):
        _ = proxy.shout


async def test_calls_of_a_proxy_have_its_own_timeout() -> None:
    timeouts: list[float | None] = []

    class Recording(RestartingActor):
        async def call(self, method: str, timeout_s: float | None, /, *_: Any, **__: Any) -> None:
            timeouts.append(timeout_s)

    proxy = ActorProxy(Recording("jobs", Handle), Greeter)

    for within in (proxy, proxy.within(None), proxy.within(7.0), proxy):
        await within.greet("you")

    assert timeouts == [CALL_TIMEOUT_S, None, 7.0, CALL_TIMEOUT_S]
