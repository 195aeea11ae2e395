"""A job system in one process, for the tests of the dispatcher: the real coordinator on SQLite, the
real uploads into a folder, and a generator that the test tells what to do."""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from ray import ObjectRef

from sa_ray.contracts import AudioFormat, AudioInfo, Job, StoredObject, VariantName
from sa_ray.errors import JobStoreError, ObjectElsewhereError, ObjectStoreError
from sa_ray.jobs import JobCoordinator
from sa_ray.jobs.stores.sql_store.store import SqlJobStore
from sa_ray.serving.actors.client import CALL_TIMEOUT_S
from sa_ray.serving.dispatcher.attempt import Attempt
from sa_ray.settings import load_settings
from sa_ray.storage import ObjectStores, Removal, Uploads, object_key
from tests.support.clock import Clock
from tests.support.jobs import RESULT, end_of, resolved

LONG = 30.0
"""Seconds; longer than any test may take."""


async def quickly(seconds: float) -> None:
    """Sleep a thousandth of ``seconds``."""
    await asyncio.sleep(seconds / 1000)


class Tally(list[Any]):
    """What has happened so far, to wait for more of it."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = asyncio.Event()

    def add(self, item: Any) -> None:
        self.append(item)
        self._grown.set()

    async def reaches(self, count: int) -> None:
        async with asyncio.timeout(LONG):
            while len(self) < count:
                self._grown.clear()
                await self._grown.wait()


def answered(owner: object, method: str) -> Tally:
    """First arguments of the calls of ``method`` that ``owner`` answers from now on."""
    tally = Tally()
    call = getattr(owner, method)

    async def tell(*args: Any, **kwargs: Any) -> Any:
        answer = await call(*args, **kwargs)
        tally.add(args[0])
        return answer

    setattr(owner, method, tell)
    return tally


def fails_once(owner: object, method: str, fault: Exception) -> None:
    """Let the next call of ``method`` raise ``fault``."""
    call = getattr(owner, method)
    faults = [fault]

    async def fail(*args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop()
        return await call(*args, **kwargs)

    setattr(owner, method, fail)


class Store(SqlJobStore):
    """Refuses writes of known jobs while it is ``away``."""

    away = 0
    """How many more writes fail."""
    transient = True

    def replace(self, job: Job) -> bool:
        if self.away:
            self.away -= 1
            raise JobStoreError("The job store is away.", transient=self.transient)
        return super().replace(job)


class Jobs(JobCoordinator):
    """The coordinator as its clients see it, without an actor in between."""

    def within(self, timeout_s: float | None) -> Self:
        return self


class Uploader:
    """The uploader as its clients see it, without an actor in between.

    Says nothing of what it has stored while ``answers`` is not set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers = asyncio.Event()
        self.answers.set()
        self.calls: list[tuple[str, float | None]] = []
        """Methods called, each with the timeout of its call."""
        self.traceparents: list[str | None] = []
        """Of the spans that uploaded."""
        self.stored = Tally()
        """Jobs with an object, answered or not."""
        self._timeout_s: float | None = CALL_TIMEOUT_S
        storage = load_settings({"storage_bucket": "", "output_dir": folder}).storage
        stores = ObjectStores(storage)
        self._uploads = Uploads(stores.current, partial(object_key, storage))
        self._removal = Removal(storage, stores, self._uploads)

    def within(self, timeout_s: float | None) -> Self:
        same = copy.copy(self)
        same._timeout_s = timeout_s
        return same

    async def upload(
        self,
        job_id: str,
        token: int,
        fmt: AudioFormat,
        audio: list["ObjectRef[bytes]"],
        index: int = 0,
        traceparent: str | None = None,
    ) -> StoredObject:
        async def fetch() -> bytes:
            return await audio[0]

        self.calls.append(("upload", self._timeout_s))
        self.traceparents.append(traceparent)
        stored = await self._uploads.upload(job_id, token, fmt, fetch, index)
        self.stored.add(job_id)
        await self.answers.wait()
        return stored

    async def withdraw(self, job: Job) -> None:
        self.calls.append(("withdraw", self._timeout_s))
        await self._removal.withdraw(job)

    async def discard(
        self, jobs: Sequence[Job]
    ) -> list[ObjectStoreError | ObjectElsewhereError | None]:
        return await self._removal.discard(jobs)

    async def tidy(
        self, jobs: Sequence[Job]
    ) -> list[ObjectStoreError | ObjectElsewhereError | None]:
        return await self._removal.tidy(jobs)

    def objects(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.wav"))


def sound() -> Any:
    """A reference to the bytes of a clip."""
    audio: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    audio.set_result(b"sound")
    return audio


class Generator:
    """Generates the clips of each job once it is told to, or raises what it is told."""

    def __init__(self) -> None:
        self.outcome: Exception | None = None
        self.first_progress = 0.0
        """Fraction that is done of a clip as soon as it is begun."""
        self.begun = Tally()
        self.stopped: list[str] = []
        self._go = asyncio.Event()

    def go(self) -> None:
        self._go.set()

    def stay(self) -> None:
        self._go.clear()

    async def has_begun(self, count: int = 1) -> None:
        await self.begun.reaches(count)

    async def __call__(
        self, job: Job, on_progress: Callable[[float], None]
    ) -> list[tuple[AudioInfo, Any]]:
        on_progress(self.first_progress)
        self.begun.add(job.id)
        try:
            await self._go.wait()
        except asyncio.CancelledError:
            self.stopped.append(job.id)
            raise
        if self.outcome:
            raise self.outcome
        on_progress(0.5)
        audio = sound()
        clips = job.request.variations()
        return [(RESULT.audio.model_copy(update={"seed": one.seed}), audio) for one in clips]


MAX_WAIT = 3600.0


class House:
    """Everything that an attempt at a job needs."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(f"sqlite:///{folder}/jobs.db")
        self.later = 0.0
        """Seconds by which the coordinator's clock is ahead."""
        self.clock = Clock()
        """Of the attempts; passes while they sleep."""
        self.jobs = Jobs(self.store, clock=self._wall_clock, max_queued=100, max_wait=MAX_WAIT)
        self.uploader = Uploader(folder / "outputs")
        self.generator = Generator()

    def _wall_clock(self) -> float:
        return time.time() + self.later

    async def submit(self, variant: VariantName = "small-sfx", n: int = 1) -> str:
        request = resolved(variant).model_copy(update={"n": n})
        return (await self.jobs.submit(uuid4().hex, request)).job.id

    async def leased(self, n: int = 1) -> Job:
        """A job of ``n`` clips that ``worker`` holds."""
        await self.submit(n=n)
        [job] = await self.jobs.lease("small-sfx", "worker", 1)
        return job

    def attempt(
        self,
        job: Job,
        on_change: Callable[[], object] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> Attempt:
        return Attempt(
            job,
            self.jobs,
            self.uploader,  # type: ignore[arg-type] # nobody downloads here
            self.generator,
            on_change=on_change,
            clock=self.clock,
            sleep=sleep or self.clock.sleep,
        )

    async def lost_to_another(self) -> Job:
        """The only job, taken from ``worker`` and leased by ``another``."""
        # Another coordinator on the same store, which never hears of the worker.
        other = Jobs(
            self.store, clock=self._wall_clock, max_queued=100, lease_ttl=0.003, reap_period=0.001
        )
        reaper = asyncio.create_task(other.run_reaper())
        while self.store.heartbeats():
            await asyncio.sleep(0.001)
        reaper.cancel()
        self.later += 60
        [job] = await self.jobs.lease("small-sfx", "another", 1)
        return job

    async def cancelled_by_another(self, job_id: str) -> None:
        """End the only job, taken from ``worker``, as cancelled."""
        taken = await self.lost_to_another()
        await self.jobs.cancel(job_id)
        await self.jobs.acknowledge_cancel(job_id, taken.token)

    async def tidy(self) -> None:
        """Clean up after ended jobs."""
        await self.uploader.tidy(await self.jobs.unclean_jobs(10))

    async def now(self, job_id: str) -> Job:
        return (await self.jobs.get(job_id)).job

    async def ended(self, job_id: str) -> Job:
        return (await end_of(self.jobs, job_id)).job


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    opened = House(folder)
    try:
        yield opened
    finally:
        await opened.jobs.close()
