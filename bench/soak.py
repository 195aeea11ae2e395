"""Memory of every process of the service under a steady mixed load.

    uv run python -m bench.soak [--minutes 15]

Twice a second a job is submitted and followed to its end in one of four ways: events, polling, a
long poll, or cancelling. Audio of succeeded jobs is downloaded and its digest compared, and a third
of the jobs are deleted; retention deletes the others after a minute. Each job has a webhook, which
must be called. Once a second a clip is made synchronously. All the while clients wait for jobs that
cannot begin, by events and by long polls. This is far from saturation on two cores.
"""

import argparse
import asyncio
import base64
import hashlib
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.process_usage import OTHER, Usage, usage
from sa_ray.local import LocalService

WARM_UP_S = 120.0
SAMPLE_PERIOD_S = 15.0
JOB_PERIOD_S = 0.5
SYNC_PERIOD_S = 1.0
POLL_S = 0.25
JOB_TTL_S = 60.0
WAITERS = 200
WAITED_FOR = 20
WEBHOOK_PATIENCE_S = 10.0
WEBHOOK_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ENDED = ("succeeded", "failed", "cancelled")
FORMATS = ("wav", "flac", "mp3", "ogg")


class Load:
    """The clients. ``outcomes`` counts their results; anything unexpected is raised."""

    def __init__(self, http: httpx.AsyncClient, webhook_url: str) -> None:
        self._http = http
        self._webhook_url = webhook_url
        self.outcomes: Counter[str] = Counter()

    async def generate(self, number: int) -> None:
        body = {"prompt": "a bell", "duration": 1, "format": FORMATS[number % 4]}
        response = await self._http.post("/v1/audio/generations", json=body)
        response.raise_for_status()
        self.outcomes["synchronous"] += 1

    async def job(self, number: int) -> None:
        follow = (self._by_events, self._by_polling, self._by_long_poll, self._cancelled)[
            number % 4
        ]
        long = number % 8 == 7
        body = {
            "prompt": "rain, wind and a siren" if long else "a bell",
            "duration": 60 if long else 2,
            "steps": 50 if long else 8,
            "format": FORMATS[number // 4 % 4],
            "webhook_url": self._webhook_url,
        }
        response = await self._http.post("/jobs", json=body)
        response.raise_for_status()
        job = await follow(response.json()["id"])
        self.outcomes[job["status"]] += 1
        if job["status"] == "failed":
            raise RuntimeError(job["error"])
        if job["status"] == "succeeded":
            await self._download(job)
        if number % 3 == 0 and job["status"] in ENDED:
            (await self._http.delete(f"/jobs/{job['id']}")).raise_for_status()
            self.outcomes["deleted"] += 1

    async def wait(self, until: float) -> None:
        """Wait for jobs of a model that no node can hold, then cancel them; all must be told."""
        body = {"prompt": "rain", "model": "medium", "duration": 1}
        accepted = [(await self._http.post("/jobs", json=body)).json() for _ in range(WAITED_FOR)]
        ids = [job["id"] for job in accepted]
        async with asyncio.TaskGroup() as group:
            for number in range(WAITERS):
                wait = self._by_long_poll if number % 4 == 0 else self._by_events
                group.create_task(self._told(wait, ids[number % WAITED_FOR]))
            await asyncio.sleep(until - time.monotonic())
            for job_id in ids:
                (await self._http.delete(f"/jobs/{job_id}")).raise_for_status()

    async def _told(self, wait: Callable[[str], Awaitable[dict[str, Any]]], job_id: str) -> None:
        if (await wait(job_id))["status"] != "cancelled":
            raise RuntimeError(f"a waiter was not told that {job_id} is cancelled")
        self.outcomes["waiters told"] += 1

    async def _by_events(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = {}
        async with self._http.stream("GET", f"/jobs/{job_id}/events") as events:
            async for line in events.aiter_lines():
                if line.startswith("data: "):
                    self.outcomes["events"] += 1
                    job = json.loads(line.removeprefix("data: "))
        return job

    async def _by_polling(self, job_id: str) -> dict[str, Any]:
        while (job := await self._get(job_id))["status"] not in ENDED:
            await asyncio.sleep(POLL_S)
        return job

    async def _by_long_poll(self, job_id: str) -> dict[str, Any]:
        while (job := await self._get(job_id, wait=30))["status"] not in ENDED:
            pass
        return job

    async def _cancelled(self, job_id: str) -> dict[str, Any]:
        response = await self._http.delete(f"/jobs/{job_id}")
        if response.status_code == 204:  # it had succeeded already, and is deleted now
            return {"id": job_id, "status": "too late to cancel"}
        return await self._by_polling(job_id)

    async def _get(self, job_id: str, wait: float = 0) -> dict[str, Any]:
        response = await self._http.get(f"/jobs/{job_id}", params={"wait": wait} if wait else None)
        self.outcomes["reads"] += 1
        job: dict[str, Any] = response.raise_for_status().json()
        return job

    async def _download(self, job: dict[str, Any]) -> None:
        audio = (await self._http.get(job["download_url"])).raise_for_status().content
        if hashlib.sha256(audio).hexdigest() != job["sha256"]:
            raise RuntimeError(f"the download of {job['id']} is not what was stored")
        self.outcomes["downloads"] += 1


async def every(
    period_s: float, until: float, act: Callable[[int], Awaitable[None]], group: asyncio.TaskGroup
) -> None:
    """Start ``act(0)``, ``act(1)``, ... ``period_s`` apart, whether or not they keep up."""
    for number in itertools.count():
        if time.monotonic() > until:
            return
        group.create_task(_awaited(act(number)))
        await asyncio.sleep(period_s)


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


async def sample(until: float, samples: list[tuple[float, dict[str, Usage]]]) -> None:
    while time.monotonic() < until:
        samples.append((time.monotonic(), await asyncio.to_thread(usage, memory=True)))
        await asyncio.sleep(SAMPLE_PERIOD_S)


async def run(base_url: str, seconds: float) -> tuple[Counter[str], list[Any]]:
    samples: list[tuple[float, dict[str, Usage]]] = []
    until = time.monotonic() + seconds
    places = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=base_url, timeout=120, limits=places) as http,
        receiver() as (webhook_url, called),
    ):
        load = Load(http, webhook_url)
        async with asyncio.TaskGroup() as group:
            group.create_task(sample(until, samples))
            group.create_task(load.wait(until))
            group.create_task(every(JOB_PERIOD_S, until, load.job, group))
            group.create_task(every(SYNC_PERIOD_S, until, load.generate, group))
        # A job that its client deletes at its end may be gone before its webhook is called.
        await asyncio.sleep(WEBHOOK_PATIENCE_S)
        load.outcomes["webhooks"] = called()
        load.outcomes["jobs left"] = len((await http.get("/jobs?limit=200")).json()["jobs"])
    return load.outcomes, samples


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, Callable[[], int]]]:
    """Take webhook calls; yields the address, and what counts the calls."""
    calls = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.splitlines()
            if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)
        calls += 1
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", lambda: calls


def report(samples: list[tuple[float, dict[str, Usage]]], warm_up_s: float) -> None:
    start = samples[0][0]
    steady = [(at, parts) for at, parts in samples if at - start >= warm_up_s]
    minutes = (steady[-1][0] - steady[0][0]) / 60
    print(f"{len(steady)} samples over {minutes:.1f} minutes after {warm_up_s:.0f} s of warm-up\n")
    shown = [steady[round(quarter * (len(steady) - 1) / 4)] for quarter in range(5)]
    times = " | ".join(f"{(at - start) / 60:.0f} min" for at, _ in shown)
    print(f"| USS, MiB | {times} | MiB an hour, second half | CPU % |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    half = steady[len(steady) // 2 :]
    for part in sorted(set.intersection(*(set(parts) for _, parts in steady)) - {OTHER}):
        sizes = " | ".join(f"{mebibytes(parts[part]):.1f}" for _, parts in shown)
        slope = statistics.linear_regression(
            [at / 3600 for at, _ in half], [mebibytes(parts[part]) for _, parts in half]
        ).slope
        cpu = steady[-1][1][part].cpu_seconds - steady[0][1][part].cpu_seconds
        print(f"| {part} | {sizes} | {slope:+.1f} | {100 * cpu / (60 * minutes):.1f} |")


def mebibytes(used: Usage) -> float:
    return used.unique_bytes / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=15)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, and so stops the service
    seconds = 60 * options.minutes
    os.environ["STABLE_AUDIO_WEBHOOK_SECRET"] = WEBHOOK_SECRET
    with tempfile.TemporaryDirectory() as folder:
        args = {
            "jobs_url": f"sqlite:///{folder}/jobs.db",
            "output_dir": f"{folder}/outputs",
            "engine": "procedural",
            "job_ttl": JOB_TTL_S,
            "max_open_per_client": 1000,
            "webhook_allow_private": True,
            "variants": {"medium": {"cpu": 1000, "max_replicas": 1}},
        }
        with LocalService(Path(folder), args) as service:
            service.wait_until_ready()
            outcomes, samples = asyncio.run(run(service.base_url, seconds))
    print(", ".join(f"{count} {what}" for what, count in sorted(outcomes.items())))
    report(samples, min(WARM_UP_S, seconds / 3))


if __name__ == "__main__":
    main()
