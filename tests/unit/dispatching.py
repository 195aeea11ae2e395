"""A job system in one process, for the tests of the dispatcher: the real coordinator on SQLite, the
real uploads into a folder, and a generator that the test tells what to do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from ray import ObjectRef

from sa_ray.contracts import AudioFormat, AudioInfo, Job, StoredObject, VariantName
from sa_ray.errors import JobStoreError
from sa_ray.jobs import JobCoordinator
from sa_ray.jobs.stores.sql_store.store import SqlJobStore
from sa_ray.serving.dispatcher.attempt import Attempt
from sa_ray.storage import Uploads
from sa_ray.storage.local import LocalObjectStore
from tests.support.jobs import RESULT, resolved

TTL = 30.0
LONG = 30.0
"""Seconds; longer than any test may take."""


async def quickly(seconds: float) -> None:
    """Sleep a thousandth of ``seconds``."""
    await asyncio.sleep(seconds / 1000)


class Store(SqlJobStore):
    """Refuses writes of known jobs while it is ``away``."""

    away = 0
    """How many more writes fail."""

    def replace(self, job: Job) -> bool:
        if self.away:
            self.away -= 1
            raise JobStoreError("The job store is away.")
        return super().replace(job)


class Jobs(JobCoordinator):
    """The coordinator as its clients see it, without an actor in between."""

    def within(self, timeout_s: float | None) -> Self:
        return self

    async def watch(self, worker: str, process: Any) -> None:
        raise NotImplementedError


class Uploader:
    """The uploader as its clients see it, without an actor in between."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = LocalObjectStore(folder)
        self._uploads = Uploads(self._store, lambda job_id, fmt: f"{job_id}.{fmt}")

    def within(self, timeout_s: float | None) -> Self:
        return self

    async def upload(
        self, job_id: str, fmt: AudioFormat, audio: list["ObjectRef[bytes]"]
    ) -> StoredObject:
        async def fetch() -> bytes:
            return await audio[0]

        return await self._uploads.upload(job_id, fmt, fetch)

    async def discard(self, job_id: str, fmt: AudioFormat) -> None:
        await self._uploads.discard(job_id, fmt)

    def objects(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.wav"))


class Generator:
    """Generates a clip for each job once it is told to, or raises what it is told."""

    def __init__(self) -> None:
        self.outcome: Exception | None = None
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self._go = asyncio.Event()
        self._begun = asyncio.Condition()

    def go(self) -> None:
        self._go.set()

    async def has_begun(self, count: int = 1) -> None:
        async with self._begun, asyncio.timeout(LONG):
            await self._begun.wait_for(lambda: len(self.begun) >= count)

    async def __call__(
        self, job: Job, on_progress: Callable[[float], None]
    ) -> tuple[AudioInfo, Any]:
        async with self._begun:
            self.begun.append(job.id)
            self._begun.notify_all()
        try:
            await self._go.wait()
        except asyncio.CancelledError:
            self.stopped.append(job.id)
            raise
        if self.outcome:
            raise self.outcome
        on_progress(0.5)
        audio: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        audio.set_result(b"sound")
        return RESULT.audio, audio


class House:
    """Everything that an attempt at a job needs."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(f"sqlite:///{folder}/jobs.db")
        self.later = 0.0
        """Seconds by which the coordinator's clock is ahead."""
        self.jobs = Jobs(self.store, clock=self._clock, max_queued=100, lease_ttl=TTL)
        self.uploader = Uploader(folder / "outputs")
        self.generator = Generator()

    def _clock(self) -> float:
        return time.time() + self.later

    async def submit(self, variant: VariantName = "small-sfx") -> str:
        return (await self.jobs.submit(uuid4().hex, resolved(variant))).job.id

    async def leased(self) -> Job:
        """A job that ``worker`` holds."""
        await self.submit()
        [job] = await self.jobs.lease("small-sfx", "worker", 1)
        return job

    def attempt(self, job: Job, on_change: Callable[[], object] = lambda: None) -> Attempt:
        return Attempt(
            job,
            self.jobs,
            self.uploader,  # type: ignore[arg-type] # nobody downloads here
            self.generator,
            on_change=on_change,
            sleep=quickly,
        )

    async def lost_to_another(self) -> Job:
        """The only job, taken from ``worker`` and leased by ``another``."""
        await self.jobs.retire("worker")
        self.later += 60
        [job] = await self.jobs.lease("small-sfx", "another", 1)
        return job

    async def now(self, job_id: str) -> Job:
        return (await self.jobs.get(job_id)).job

    async def ended(self, job_id: str) -> Job:
        return (await self.jobs.wait(job_id, LONG)).job


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    opened = House(folder)
    try:
        yield opened
    finally:
        await opened.jobs.close()
