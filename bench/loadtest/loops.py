"""The loops that send requests: closed, where clients wait for answers, and open, where none do."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import uvloop

from bench.loadtest.arrivals import Arrivals
from bench.loadtest.connection import Answer, Connections
from bench.loadtest.mixes import Kind, Mix, get, post, source_file
from bench.loadtest.recording import Phase, Record
from bench.process_usage import cpu_between, usage

LONG_POLL_S = 30
LONGEST_RETRY_S = 1.0
ENGINE = re.compile(r"engine;dur=([\d.]+)")


class Target(NamedTuple):
    """A server. ``pid``: the process whose descendants are measured too; None: this one."""

    port: int
    host: str = "127.0.0.1"
    pid: int | None = None


class Sender:
    """Sends requests of a mix on kept connections."""

    def __init__(self, connections: Connections, mix: Mix) -> None:
        self._connections = connections
        self._mix = mix

    def of(self, mix: Mix) -> "Sender":
        """Return one for ``mix`` on the same connections."""
        return Sender(self._connections, mix)

    def record(self, at: float) -> tuple[Record, Kind]:
        kind = self._mix.draw()
        return Record(kind.name, at), kind

    async def send(self, record: Record, kind: Kind, duration: float | None = None) -> None:
        """Note in ``record`` what became of a request of ``kind``; ``ended`` is for the caller."""
        answer = await self._exchange(record, kind.request(duration))
        if kind.job and answer is not None and answer.status == 202:
            await self._follow(record, json.loads(answer.body)["id"])

    async def _exchange(self, record: Record, request: bytes) -> Answer | None:
        try:
            answer = await self._connections.exchange(request)
        except (OSError, TimeoutError) as error:
            record.status, record.error = 0, type(error).__name__
            return None
        note(record, answer)
        return answer

    async def _follow(self, record: Record, job_id: str) -> None:
        """Wait for the end of a job by long polls."""
        poll = get(f"/jobs/{job_id}?wait={LONG_POLL_S}")
        while (answer := await self._exchange(record, poll)) and record.status == 200:
            view = json.loads(answer.body)
            if view["completed_at"]:
                if view["status"] != "succeeded":
                    record.error = f"job {view['status']}"
                return


def note(record: Record, answer: Answer) -> None:
    """Note in ``record`` what ``answer`` says."""
    record.status, record.size = answer.status, answer.size
    if retry_after := answer.header("retry-after"):
        record.retry_after = float(retry_after)
    if found := ENGINE.search(answer.header("server-timing") or ""):
        record.engine_ms = float(found[1])


def closed(target: Target, mix: Mix, *, clients: int, seconds: float) -> Phase:
    """Have each of ``clients`` send its next request when its last one is answered.

    Latency counts from when the client was free to send. After a refusal it waits as long as it is
    told to, a second at most.
    """

    async def run(sender: Sender, phase: Phase) -> None:
        await _closed(sender, phase, clients, seconds)

    return uvloop.run(_measured(target, mix, run))


def open_loop(target: Target, mix: Mix, arrivals: Arrivals, *, beside: Mix | None = None) -> Phase:
    """Send each request at its time, however many are not answered yet, and wait for them all.

    Meanwhile one more client sends requests of ``beside`` in a closed loop; they are not recorded.
    """

    async def run(sender: Sender, phase: Phase) -> None:
        others = asyncio.create_task(_endless(sender.of(beside))) if beside else None
        await _open(sender, phase, arrivals)
        if others:
            others.cancel()

    return uvloop.run(_measured(target, mix, run))


def repeated(
    target: Target, request: Callable[[], bytes], *, clients: int, seconds: float
) -> tuple[Phase, list[bytes]]:
    """Run ``repeating``."""
    return uvloop.run(repeating(target, request, clients=clients, seconds=seconds))


async def repeating(
    target: Target, request: Callable[[], bytes], *, clients: int, seconds: float
) -> tuple[Phase, list[bytes]]:
    """Have each of ``clients`` send ``request()`` again and again; return the bodies, too.

    Raises ``RuntimeError`` unless all were answered well.
    """
    bodies: list[bytes] = []

    class Plain(Sender):
        async def send(self, record: Record, kind: Kind, duration: float | None = None) -> None:
            answer = await self._exchange(record, request())
            if answer is not None:
                bodies.append(answer.body)

    async def run(sender: Sender, phase: Phase) -> None:
        await _closed(sender, phase, clients, seconds)

    phase = await _measured(target, Mix([Kind("request", {})]), run, Plain)
    if not all(one.is_good for one in phase.records):
        raise RuntimeError(f"not all were answered: {phase.summary()}, {bodies[-1:]}")
    return phase, bodies


async def _measured(
    target: Target,
    mix: Mix,
    run: Callable[[Sender, Phase], Awaitable[None]],
    sending: type[Sender] = Sender,
) -> Phase:
    connections = Connections(target.host, target.port)
    phase = Phase()
    sender = sending(connections, await prepared(connections, mix))
    before = usage(target.pid)
    started = time.perf_counter()
    await run(sender, phase)
    phase.seconds = time.perf_counter() - started
    phase.cpu = cpu_between(before, usage(target.pid))
    connections.close()
    return phase


async def prepared(connections: Connections, mix: Mix) -> Mix:
    """Upload the sources of ``mix``, and return it with their ids."""
    kinds = []
    for kind in mix.kinds:
        if kind.source is not None:
            file = source_file(kind.source)
            answer = await connections.exchange(post("/v1/uploads", file, "audio/wav"))
            if answer.status != 201:
                raise RuntimeError(f"a source was refused: {answer.body.decode()}")
            kind = kind.edits(json.loads(answer.body)["id"])
        kinds.append(kind)
    return Mix(kinds, mix.seed)


async def _closed(sender: Sender, phase: Phase, clients: int, seconds: float) -> None:
    started = time.perf_counter()

    async def client() -> None:
        while (at := time.perf_counter() - started) < seconds:
            record, kind = sender.record(at)
            await sender.send(record, kind)
            record.ended = time.perf_counter() - started
            phase.records.append(record)
            if record.is_refused:
                await asyncio.sleep(min(record.retry_after or LONGEST_RETRY_S, LONGEST_RETRY_S))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


async def _endless(sender: Sender) -> None:
    while True:
        await sender.send(*sender.record(0.0))


async def _open(sender: Sender, phase: Phase, arrivals: Arrivals) -> None:
    started = time.perf_counter()

    async def one(record: Record, kind: Kind, duration: float | None) -> None:
        await sender.send(record, kind, duration)
        record.ended = time.perf_counter() - started
        phase.records.append(record)

    durations = arrivals.durations
    async with asyncio.TaskGroup() as group:
        for number, at in enumerate(arrivals.times):
            wait = at - (time.perf_counter() - started)
            if wait > 0:
                await asyncio.sleep(wait)
            record, kind = sender.record(float(at))
            told = None if durations is None else float(durations[number])
            group.create_task(one(record, kind, told))
