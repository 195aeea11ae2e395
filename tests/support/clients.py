"""The clients, so that one test can be of all of them."""

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
)
from typing import Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from sa_ray.client import AsyncClient, Client

KINDS = ("sync", "asyncio", "trio")


def opener(kind: str) -> "Callable[..., Any]":
    """Return what makes a client of ``kind`` that is called as ``Client`` is."""
    return Client if kind == "sync" else lambda *args, **options: Blocking(kind, *args, **options)


class Blocking:
    """An ``AsyncClient`` on an event loop of its own, whose methods return when they are done."""

    def __init__(self, backend: str, *args: Any, **options: Any) -> None:
        self._backend = backend
        self._client = AsyncClient(*args, **options)
        self._open = ExitStack()
        self._portal: BlockingPortal

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._portal = opened.enter_context(start_blocking_portal(self._backend))
            opened.enter_context(self._portal.wrap_async_context_manager(self._client))
            self._open = opened.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._open.__exit__(*raised)

    def close(self) -> None:
        self._portal.call(self._client.aclose)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **options: Any) -> Any:
            answer = method(*args, **options)
            if isinstance(answer, AbstractAsyncContextManager):
                return self._entered(answer)
            if isinstance(answer, AsyncIterator):
                return self._each(answer)
            return self._portal.call(_done, answer)

        return call

    def _each(self, answers: AsyncIterator[Any]) -> Generator[Any, None, None]:
        try:
            while True:
                try:
                    yield self._portal.call(anext, answers)
                except StopAsyncIteration:
                    return
        finally:
            if hasattr(answers, "aclose"):
                self._portal.call(answers.aclose)

    @contextmanager
    def _entered(
        self, answer: AbstractAsyncContextManager[AsyncIterator[Any]]
    ) -> Iterator[Iterator[Any]]:
        blocking: AbstractContextManager[AsyncIterator[Any]]
        blocking = self._portal.wrap_async_context_manager(answer)
        with blocking as answers, closing(self._each(answers)) as each:
            yield each


async def _done(answer: Any) -> Any:
    return await answer
