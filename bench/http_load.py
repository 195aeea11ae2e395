"""A closed loop of HTTP clients: each sends its next request when its last one is answered.

Written over asyncio's streams, because the client shares the cores with the servers: it costs about
0.1 ms of CPU a request, and httpx costs more than the measured servers.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

SEPARATOR = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


@dataclass
class Load:
    """Results of one phase. ``latencies`` in seconds; ``bodies`` only if they were asked for."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def quantile_ms(self, fraction: float) -> float:
        points = statistics.quantiles(self.latencies, n=100, method="inclusive")
        return 1000 * points[round(100 * fraction) - 1]


def post(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


async def closed_loop(
    port: int,
    *,
    clients: int,
    seconds: float,
    request: Callable[[], bytes],
    status: int,
    keep_bodies: bool = False,
) -> Load:
    """Load ``127.0.0.1:port`` for ``seconds``.

    Raises ``RuntimeError`` at an answer of another status: refusals must not count as served.
    """
    load = Load(seconds)
    expected = f" {status} ".encode()
    end = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            # A proxy that loads another configuration closes the connections it had.
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await one_connection()

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while (started := time.perf_counter()) < end:
                writer.write(request())
                head = await reader.readuntil(SEPARATOR)
                at = head.lower().index(LENGTH) + len(LENGTH)
                body = await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
                if expected not in head[:16]:
                    raise RuntimeError(f"{head.decode()}{body.decode()}")
                load.latencies.append(time.perf_counter() - started)
                if keep_bodies:
                    load.bodies.append(body)
        finally:
            writer.close()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    load.seconds = time.perf_counter() - started
    return load
