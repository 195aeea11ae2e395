"""Crowds of clients that wait for jobs, by event streams and by ``?wait=``."""

import asyncio
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from sa_ray.contracts import FINAL_STATUSES

OPENED_AT_ONCE = 32
WAIT_S = 120
PATIENCE_S = 240.0


class Waiters:
    """``count`` clients that wait for the end of ``job_ids``, each for one, from a thread."""

    def __init__(self, base_url: str, job_ids: Iterable[str], count: int) -> None:
        address = urlsplit(base_url)
        self._host, self._port = address.hostname, address.port
        self._jobs = [*itertools.islice(itertools.cycle(job_ids), count)]
        self._told: list[tuple[str, ...]] = []
        self._all_wait = threading.Event()
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def until_all_wait(self) -> None:
        assert self._all_wait.wait(PATIENCE_S)
        assert self._broken is None, repr(self._broken)

    def result(self) -> Counter[tuple[str, ...]]:
        """How many have been told which ends; every one should be told one."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "some still wait"
        assert self._broken is None, repr(self._broken)
        return Counter(self._told)

    def _run(self) -> None:
        try:
            asyncio.run(self._wait_all())
        except BaseException as error:
            self._broken = error
            self._all_wait.set()
            raise

    async def _wait_all(self) -> None:
        opening = asyncio.Semaphore(OPENED_AT_ONCE)
        waiting = asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as group:
            for number, job_id in enumerate(self._jobs):
                one = self._follow if number % 4 else self._poll
                group.create_task(one(job_id, opening, waiting))
            for _ in self._jobs:
                await waiting.acquire()
            self._all_wait.set()

    async def _follow(
        self, job_id: str, opening: asyncio.Semaphore, waiting: asyncio.Semaphore
    ) -> None:
        async with opening:
            reader, writer = await self._ask(f"/jobs/{job_id}/events")
            assert b" 200 " in (head := await reader.readline()), head
            ends = _end(await reader.readuntil(b"data: ") + await reader.readline())
        waiting.release()
        while line := await reader.readline():
            ends += _end(line)
        writer.close()
        self._told.append(ends)

    async def _poll(
        self, job_id: str, opening: asyncio.Semaphore, waiting: asyncio.Semaphore
    ) -> None:
        ends: tuple[str, ...] = ()
        while not ends:
            async with opening:
                reader, writer = await self._ask(f"/jobs/{job_id}?wait={WAIT_S}")
                # Nothing tells that the wait has begun.
                await asyncio.sleep(0.4)
            waiting.release()
            answer = await reader.read()
            assert b" 200 " in answer[:16], answer
            ends = _end(b"data: " + answer.partition(b"\r\n\r\n")[2])
            writer.close()
        self._told.append(ends)

    async def _ask(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        return reader, writer


def _end(line: bytes) -> tuple[str, ...]:
    """The final status that the line of an event stream tells, if it tells one."""
    _, found, data = line.partition(b"data: ")
    if not found:
        return ()
    view: dict[str, Any] = json.loads(data)
    return (view["status"],) if view["status"] in FINAL_STATUSES else ()
