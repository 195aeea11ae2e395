"""Jobs accepted, cleaned up and retired per second, and webhook calls beside a silent receiver.

    uv run python -m bench.housekeeping [--stores sqlite,postgresql,redis] [--jobs 2000]

In one process, without Ray or HTTP before it: the coordinator on a real store, the housekeeping and
webhook loops of the dispatcher, objects in a folder, receivers that are HTTP servers. What is
accepted here is the most that the coordinator itself takes. Clients are accepted through HTTP, at
the rate of submits that `bench/load.py` measures: housekeeping keeps up if it handles twice that.
"""

import argparse
import asyncio
import itertools
import logging
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

from bench.databases import postgresql, redis_server
from sa_ray.contracts import AudioInfo, Job, JobResult, JobView, ResolvedRequest
from sa_ray.jobs import JobCoordinator, JobOptions, JobSnapshot, open_job_store
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.jobs.webhook_sender import WebhookSender
from sa_ray.serving.dispatcher.housekeeping import Housekeeping
from sa_ray.serving.dispatcher.webhook_calls import WebhookCalls
from sa_ray.serving.job_view import JobViews
from sa_ray.settings import StorageSettings, load_settings
from sa_ray.storage import ObjectStores, Removal, Uploads, object_key

CLIENTS = 32
RECEIVERS = 20
"""One of them never answers."""

REQUEST = ResolvedRequest(
    model="small-sfx", prompt="rain", duration=1.0, steps=8, cfg_scale=1.0, seed=1
)
EIGHT_DAYS = 8 * 86_400.0


class Jobs(JobCoordinator):
    """The coordinator as the dispatcher sees it, on a clock that can be put forward."""

    later = 0.0

    def __init__(self, url: str) -> None:
        super().__init__(
            open_job_store(url), clock=lambda: time.time() + self.later, max_queued=1_000_000
        )

    def within(self, timeout_s: float | None) -> Self:
        return self


class House:
    """Jobs, and the store of their objects."""

    def __init__(self, url: str, folder: Path) -> None:
        self.jobs = Jobs(url)
        self.storage: StorageSettings = load_settings(
            {"storage_bucket": "", "output_dir": folder}
        ).storage
        self.stores = ObjectStores(self.storage)
        uploads = Uploads(self.stores.current, lambda *_: "")
        self.removal = Removal(self.storage, self.stores, uploads)

    async def accept(self, count: int, url: str | None = None) -> float:
        """Submit ``count`` jobs; return how many per second were accepted."""
        numbers = iter(range(count))

        async def client() -> None:
            for _ in numbers:
                await self.jobs.submit(uuid.uuid4().hex, REQUEST, JobOptions(webhook_url=url))

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return count / (time.perf_counter() - started)

    async def leased(self, count: int) -> list[Job]:
        """Lease ``count`` jobs and store an object of each."""
        jobs: list[Job] = []
        while len(jobs) < count:
            jobs += await self.jobs.lease("small-sfx", "worker", min(256, count - len(jobs)))
        for job in jobs:
            key = object_key(self.storage, job.id, job.token, "wav")
            self.stores.current.put(key, b"RIFF", content_type="audio/wav", filename="a.wav")
        return jobs


async def handled(loop: Callable[[], Awaitable[None]], due: Callable[[], Awaitable[bool]]) -> float:
    """Run ``loop`` until nothing is ``due``; return the seconds it took."""
    started = time.perf_counter()
    task = asyncio.ensure_future(loop())
    while await due():
        await asyncio.sleep(0.02)
    task.cancel()
    return time.perf_counter() - started


async def measure(url: str, folder: Path, count: int) -> None:
    house = House(url, folder)
    accepted = await house.accept(count)
    jobs = await house.leased(count)
    audio = AudioInfo(
        engine="procedural", sample_rate=44_100, channels=2, duration=1, format="wav",
        generation_seconds=0.1,
    )  # fmt: skip
    half = count // 2
    for job in jobs[:half]:
        stored = house.stores.current.put(
            object_key(house.storage, job.id, job.token, "wav"), b"RIFF",
            content_type="audio/wav", filename="a.wav",
        )  # fmt: skip
        result = JobResult(audio=audio, object=stored, upload_seconds=0.1)
        await house.jobs.succeed(job.id, job.token, result)
    for job in jobs[half:]:
        await house.jobs.cancel(job.id)
        await house.jobs.acknowledge_cancel(job.id, job.token)
    cleaning, retiring = Housekeeping(house.jobs, house.removal).loops()  # type: ignore[arg-type]

    async def unclean() -> bool:
        return bool(await house.jobs.unclean_jobs(1))

    async def expired() -> bool:
        return bool(await house.jobs.expired_jobs(1))

    cleaned = (count - half) / await handled(lambda: cleaning, unclean)
    house.jobs.later += EIGHT_DAYS
    retired = count / await handled(lambda: retiring, expired)
    left = objects_in(folder)
    print(f"  accepted {accepted:.0f}/s (32 clients, in process)")
    print(f"  cleaned up {cleaned:.0f}/s, {cleaned / accepted:.1f} times the accepted")
    print(f"  retired {retired:.0f}/s, {retired / accepted:.1f} times; objects left: {left}")
    await call_webhooks(house, count)
    await house.jobs.close()


def objects_in(folder: Path) -> int:
    return sum(path.suffix == ".wav" for path in folder.rglob("*"))


async def call_webhooks(house: House, count: int) -> None:
    views = JobViews(house.stores)

    async def view(job: Job) -> JobView:
        return await views.one(JobSnapshot(job, None), "")

    async with receivers() as (urls, received):
        healthy = 0
        for url, _ in zip(itertools.cycle(urls), range(count), strict=False):
            job_id = uuid.uuid4().hex
            await house.jobs.submit(job_id, REQUEST, JobOptions(webhook_url=url))
            await house.jobs.cancel(job_id)
            healthy += url != urls[0]
        sender = WebhookSender(WebhookSecrets(["whsec_" + "A" * 32]), allow_private=True)
        calls = WebhookCalls(house.jobs, sender, view)  # type: ignore[arg-type]

        async def waiting() -> bool:
            return len(received) < healthy

        seconds = await handled(calls.run, waiting)
        await sender.close()
    print(f"  {healthy} calls taken by 19 receivers, one in 20 silent: {healthy / seconds:.0f}/s")


@asynccontextmanager
async def receivers() -> Any:
    """Yield URLs, the first of a receiver that never answers, and the growing list of calls."""
    received: list[None] = []

    held: list[asyncio.StreamWriter] = []

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        [size] = [
            line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-le")
        ]
        await reader.readexactly(int(size))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        received.append(None)
        writer.close()

    servers = [
        await asyncio.start_server(silent if not number else answer, "127.0.0.1", 0, backlog=512)
        for number in range(RECEIVERS)
    ]
    try:
        yield [f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}/" for one in servers], received
    finally:
        for one in servers:
            one.close()


@contextmanager
def opened(name: str, folder: Path) -> Iterator[str]:
    """The URL of an empty store of that kind."""
    with ExitStack() as stack:
        if name == "sqlite":
            yield f"sqlite:///{folder}/jobs.db"
        elif name == "postgresql":
            yield stack.enter_context(postgresql()).create_database("housekeeping")
        else:
            yield stack.enter_context(redis_server()).url()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stores", default="sqlite,postgresql,redis")
    parser.add_argument("--jobs", type=int, default=2000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for name in options.stores.split(","):
        with tempfile.TemporaryDirectory() as folder, opened(name, Path(folder)) as url:
            print(name)
            asyncio.run(measure(url, Path(folder) / "outputs", options.jobs))


if __name__ == "__main__":
    main()
