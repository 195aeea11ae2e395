"""Have many requests made, some at once, by threads or by tasks."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue

import anyio
import httpx
from anyio.streams.memory import MemoryObjectSendStream

from sa_ray.client.wire import ApiError
from sa_ray.contracts import GenerationRequest, JobView

PARALLEL = 32
"""Jobs of a batch that are waited for at once: a third of what one address may."""

Item = tuple[int, GenerationRequest]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one request of a batch: a ``job`` that has ended, or an ``error``."""

    index: int
    """Place of the request, from 0."""
    request: GenerationRequest
    job: JobView | None = None
    """It may have failed: ``status`` and ``error`` say so."""
    error: ApiError | httpx.TransportError | None = None
    """Why there is no such job, or why its end is not known."""


def numbered(requests: Iterable[GenerationRequest], parallel: int) -> Iterator[Item]:
    """Number ``requests``. Raises ``ValueError`` if none of them could be made."""
    if parallel < 1:
        raise ValueError(f"parallel is {parallel}; it has to be 1 or more")
    return enumerate(requests)


def by_threads(
    make: Callable[[int, GenerationRequest], BatchResult], items: Iterator[Item], parallel: int
) -> Generator[BatchResult, None, None]:
    """Yield the results as they come; ``items`` are taken one for each result.

    The threads do not keep the process from ending.
    """
    given: SimpleQueue[Item | None] = SimpleQueue()
    done: SimpleQueue[BatchResult | BaseException] = SimpleQueue()

    def work() -> None:
        while (item := given.get()) is not None:
            try:
                done.put(make(*item))
            except BaseException as error:  # noqa: BLE001 - raised where it is heard
                done.put(error)

    working = 0
    try:
        for item in islice(items, parallel):
            threading.Thread(target=work, daemon=True).start()
            working += 1
            given.put(item)
        left = working
        while left:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            left -= 1
            for item in islice(items, 1):
                given.put(item)
                left += 1
            yield result
    finally:
        for _ in range(working):
            given.put(None)


@asynccontextmanager
async def by_tasks(
    make: Callable[[int, GenerationRequest], Awaitable[BatchResult]],
    items: Iterator[Item],
    parallel: int,
) -> AsyncIterator[AsyncIterator[BatchResult]]:
    """Give the results as they come; at the end of the block, what is under way is cancelled."""
    sending, results = anyio.create_memory_object_stream[BatchResult]()
    error: Exception | None = None

    async def work(own: MemoryObjectSendStream[BatchResult]) -> None:
        nonlocal error
        async with own:
            try:
                for item in items:
                    await own.send(await make(*item))
            except anyio.BrokenResourceError:
                return  # the results are closed: nobody waits for more
            except Exception as raised:  # noqa: BLE001 - raised below
                error = error or raised
                tasks.cancel_scope.cancel()

    async with results, anyio.create_task_group() as tasks:
        with sending:
            for _ in range(parallel):
                tasks.start_soon(work, sending.clone())
        try:
            yield results
        except Exception as raised:  # noqa: BLE001 - raised below, and not as one of a group
            error = error or raised
        tasks.cancel_scope.cancel()
    if error:
        raise error
