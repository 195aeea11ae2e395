"""What those who wait for jobs cost the others: a status read with and without them, in one run.

    uv run python -m bench.watchers [--watchers 2000,5000] [--seconds 10] [--clients 1]

Half of the watchers follow event streams, half wait with ``?wait=``; each connects anew when its
wait is over. They watch 64 jobs for `medium`, whose replica asks for more CPUs than the machine
has, so nothing changes. The service runs on SQLite, with one ingress replica.
"""

import argparse
import asyncio
import itertools
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx

from bench.loadtest.connection import END_OF_HEAD
from bench.loadtest.loops import Target, repeating
from bench.loadtest.mixes import get
from bench.loadtest.recording import Phase
from bench.process_usage import Usage, cpu_between, usage
from sa_ray.local import LocalService

JOBS = 64
OPENED_AT_ONCE = 32
OPENED_PER_S = 80
OPENING_TIMEOUT_S = 300.0
SETTLE_S = 20.0
"""Longer than an event stream is silent, so that all have had their first comment."""
SHOWN_CPU = 0.005


class Watchers:
    """Clients that wait for jobs until they are cancelled."""

    def __init__(self, port: int, job_ids: list[str]) -> None:
        self._port = port
        self._jobs = itertools.cycle(job_ids)
        self._tasks: list[asyncio.Task[None]] = []
        self._opening = asyncio.Semaphore(OPENED_AT_ONCE)
        self.refused = 0

    async def grow(self, count: int) -> None:
        """Have ``count`` watchers in all, and wait until they have been taken in."""
        new = [self._add(number) for number in range(len(self._tasks), count)]
        async with asyncio.timeout(OPENING_TIMEOUT_S):
            await asyncio.gather(*(begun.wait() for begun in new))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _add(self, number: int) -> asyncio.Event:
        begun = asyncio.Event()
        follow = self._follow if number % 2 else self._wait
        self._tasks.append(asyncio.create_task(follow(next(self._jobs), begun)))
        return begun

    async def _follow(self, job_id: str, begun: asyncio.Event) -> None:
        while True:
            async with self._opening:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(get(f"/jobs/{job_id}/events"))
                self._note(await reader.readuntil(END_OF_HEAD))
                await reader.readuntil(b"\n\n")  # the first event
            begun.set()
            while await reader.read(1 << 16):
                pass
            writer.close()

    async def _wait(self, job_id: str, begun: asyncio.Event) -> None:
        while True:
            async with self._opening:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(get(f"/jobs/{job_id}?wait=120"))
                # Nothing tells that the wait has begun; it costs as much as a read.
                await asyncio.sleep(OPENED_AT_ONCE / OPENED_PER_S)
            begun.set()
            with suppress(asyncio.IncompleteReadError):
                self._note(await reader.readuntil(END_OF_HEAD))
            writer.close()

    def _note(self, head: bytes) -> None:
        if b" 200 " not in head[:16]:
            self.refused += 1


async def measure(port: int, job_ids: list[str], seconds: float, clients: int) -> "Row":
    """Read jobs one after the other; before that, count what is used without reading."""
    before = usage()
    await asyncio.sleep(seconds)
    between = usage()
    paths = itertools.cycle([f"/jobs/{job_id}" for job_id in job_ids])
    load, _ = await repeating(
        Target(port), lambda: get(next(paths)), clients=clients, seconds=seconds
    )
    return Row(load, seconds, before, between, usage())


class Row:
    """Result of one number of watchers."""

    def __init__(
        self,
        load: Phase,
        seconds: float,
        before: dict[str, Usage],
        between: dict[str, Usage],
        after: dict[str, Usage],
    ) -> None:
        self.load = load
        idle = {part: cpu / seconds for part, cpu in cpu_between(before, between).items()}
        self.idle_cores = idle
        self.cpu_ms = {
            part: 1000 * (cpu - load.seconds * idle.get(part, 0)) / len(load.records)
            for part, cpu in cpu_between(between, after).items()
        }

    def line(self, watchers: int, base: Phase) -> str:
        idle = {p: cores for p, cores in self.idle_cores.items() if cores >= SHOWN_CPU}
        cores = ", ".join(f"{part} {100 * share:.0f} %" for part, share in idle.items())
        cpu = ", ".join(f"{part} {ms:.1f}" for part, ms in self.cpu_ms.items() if ms >= 0.1)
        names = ("p50", "p95")
        ratios = [self.load.latency_ms(name) / base.latency_ms(name) for name in names]
        return (
            f"| {watchers} | {self.load.latency_ms('p50'):.1f} | {self.load.latency_ms('p95'):.1f} "
            f"| {ratios[0]:.2f} | {ratios[1]:.2f} | {cpu} | {cores} |"
        )


async def compare(port: int, counts: list[int], seconds: float, clients: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        body = {"prompt": "rain on a tin roof", "model": "medium", "duration": 30}
        job_ids = [(await http.post("/jobs", json=body)).json()["id"] for _ in range(JOBS)]
    await measure(port, job_ids, 3, clients)  # warm
    watchers = Watchers(port, job_ids)
    idle = await measure(port, job_ids, seconds, clients)
    print(idle.line(0, idle.load), flush=True)
    for count in counts:
        started = time.monotonic()
        await watchers.grow(count)
        print(f"(opened in {time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
        await asyncio.sleep(SETTLE_S)
        row = await measure(port, job_ids, seconds, clients)
        print(row.line(count, idle.load), flush=True)
        if watchers.refused:
            raise RuntimeError(f"{watchers.refused} watchers were refused")
    await watchers.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--watchers", default="2000,5000")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=1)
    options = parser.parse_args()
    counts = [int(count) for count in options.watchers.split(",")]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, and so stops the service
    with tempfile.TemporaryDirectory() as folder:
        args = {
            "jobs_url": f"sqlite:///{folder}/jobs.db",
            "output_dir": f"{folder}/outputs",
            "engine": "procedural",
            "preload_models": "",
            "max_waiting_requests": max(counts),
            "max_open_per_client": max(counts),
            "variants": {"medium": {"cpu": 1000, "max_replicas": 1, "max_batch_rows": 1}},
        }
        with LocalService(Path(folder), args) as service:
            service.wait_until_ready()
            print(
                "| watchers | read p50 ms | p95 ms | ratio p50 | ratio p95 | CPU ms a read "
                "| idle, of a core |\n| --- | --- | --- | --- | --- | --- | --- |"
            )
            asyncio.run(compare(service.port, counts, options.seconds, options.clients))


if __name__ == "__main__":
    main()
