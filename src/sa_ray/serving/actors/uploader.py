"""The uploader actor: a Ray shell that writes audio to the object store and reads it back."""

import asyncio
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from ray import ObjectRef

from sa_ray.contracts import (
    AudioFormat,
    ComponentHealth,
    Job,
    ReadAudio,
    StoredObject,
    Upload,
)
from sa_ray.errors import ObjectElsewhereError, ObjectStoreError
from sa_ray.serving.metrics import UPLOAD_SECONDS
from sa_ray.settings import StorageSettings
from sa_ray.storage import Inputs, ObjectStores, Removal, Uploads, arrived, in_thread, object_key
from sa_ray.telemetry import configure_logging, configure_tracing, span

MAX_CONCURRENT_READS = 16

MAX_CONCURRENT_INPUTS = 4
"""Calls about audio that clients send, each of which may hold that of the longest clip."""


class UploaderApi(Protocol):
    """Methods of the uploader for other processes. Each may raise ``ObjectStoreError``.

    Uploads, downloads, removals and sweeps have threads of their own: none waits for another.
    """

    async def health(self) -> ComponentHealth:
        """Return the result of the last check; wait for the first one."""
        ...

    async def upload(
        self,
        job_id: str,
        token: int,
        fmt: AudioFormat,
        audio: list["ObjectRef[bytes]"],
        index: int = 0,
        traceparent: str | None = None,
    ) -> StoredObject:
        """Store clip ``index`` of the attempt ``token`` at a job; return what the store confirmed.

        ``audio`` holds one reference; in a list, so that Ray hands over the reference and not a
        copy of the bytes. While the store is away, Ray's object store keeps the audio, and spills
        it to disk when memory is short. ``traceparent``: that of the span that uploads. Raises
        Ray's own errors if the audio was lost with the process that owned it.
        """
        ...

    async def withdraw(self, job: Job) -> None:
        """Stop the uploads of the attempt ``job.token``, and leave no object of it behind."""
        ...

    async def discard(
        self, jobs: Sequence[Job]
    ) -> list[ObjectStoreError | ObjectElsewhereError | None]:
        """Stop the uploads of the jobs and remove all their objects, where their records say.

        Returns for each job, in order, why an object may be left: ``ObjectElsewhereError`` if the
        present settings cannot reach it.
        """
        ...

    async def tidy(
        self, jobs: Sequence[Job]
    ) -> list[ObjectStoreError | ObjectElsewhereError | None]:
        """Do as ``discard`` does to ended jobs, but keep their results."""
        ...

    async def size(self, stored: StoredObject) -> int | None:
        """Size in bytes of the object, or None if there is none.

        Raises ``ObjectElsewhereError`` as ``discard`` returns it.
        """
        ...

    async def read(self, stored: StoredObject, start: int, length: int) -> bytes:
        """Read the bytes ``[start, start + length)`` of the object. A download is many of these
        calls: it goes at its client's pace, and outlives the actor."""
        ...

    async def find_input(self, upload_id: str) -> Upload | None:
        """Return audio that a client has sent, unless there is none or it has expired."""
        ...

    async def renew_input(self, upload_id: str, owner: str = "") -> Upload | None:
        """Have it live on as if new, as ``owner``'s too; None if it has to be sent again."""
        ...

    async def keep_input(
        self,
        upload_id: str,
        read: ReadAudio,
        size_bytes: int,
        audio: list["ObjectRef[bytes]"],
        owner: str = "",
    ) -> Upload:
        """Store audio that a client has sent, as ``upload`` does, but without retrying.

        ``audio``: its stored form, and the file itself if it carries a C2PA manifest.

        Raises ``InfrastructureError`` if ``audio`` does not arrive.
        """
        ...

    async def remove_input(self, upload_id: str, owner: str | None = None) -> None:
        """Delete it, or take it from ``owner`` where it is others' too; no error if it is gone."""
        ...

    async def due_inputs(self) -> list[str]:
        """Return the ids of the audio of clients that has had its time."""
        ...

    async def sweep_inputs(self, due: Collection[str], pinned: Collection[str]) -> None:
        """Delete what is still ``due``, but not at the keys ``pinned``."""
        ...


class Uploader(UploaderApi):
    """May be killed at any time: what it has not acknowledged is uploaded again."""

    async def __init__(  # type: ignore[misc] # Ray awaits it
        self, settings: StorageSettings, fingerprint: str
    ) -> None:
        configure_logging()
        configure_tracing()
        self._fingerprint = fingerprint
        self._stores = ObjectStores(settings)
        self._uploads = Uploads(self._stores.current, partial(object_key, settings))
        self._removal = Removal(settings, self._stores, self._uploads)
        self._inputs = Inputs(settings, self._stores.current)
        self._input_threads = ThreadPoolExecutor(MAX_CONCURRENT_INPUTS, "input")
        self._input_slots = asyncio.Semaphore(MAX_CONCURRENT_INPUTS)
        # A sweep deletes many objects, and no client waits for it.
        self._sweeper = ThreadPoolExecutor(1, "input-sweep")
        self._readers = ThreadPoolExecutor(MAX_CONCURRENT_READS, "object-read")
        self._checker = asyncio.create_task(self._uploads.check_forever())

    async def fingerprint(self) -> str:
        return self._fingerprint

    async def health(self) -> ComponentHealth:
        return await self._uploads.health()

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

        started = time.monotonic()
        with span("upload", traceparent, {"sa_ray.job.id": job_id, "sa_ray.format": fmt}):
            stored = await self._uploads.upload(job_id, token, fmt, fetch, index)
        UPLOAD_SECONDS.observe(time.monotonic() - started, format=fmt)
        return stored

    async def withdraw(self, job: Job) -> None:
        await self._removal.withdraw(job)

    async def discard(
        self, jobs: Sequence[Job]
    ) -> list[ObjectStoreError | ObjectElsewhereError | None]:
        return await self._removal.discard(jobs)

    async def tidy(
        self, jobs: Sequence[Job]
    ) -> list[ObjectStoreError | ObjectElsewhereError | None]:
        return await self._removal.tidy(jobs)

    async def size(self, stored: StoredObject) -> int | None:
        def size() -> int | None:
            return self._stores.holding(stored).size(stored.key)

        return await in_thread(self._readers, size)

    async def read(self, stored: StoredObject, start: int, length: int) -> bytes:
        def read() -> bytes:
            store = self._stores.holding(stored)
            return b"".join(store.read(stored.key, start=start, length=length))

        return await in_thread(self._readers, read)

    async def find_input(self, upload_id: str) -> Upload | None:
        return await in_thread(self._readers, lambda: self._inputs.find(upload_id))

    async def renew_input(self, upload_id: str, owner: str = "") -> Upload | None:
        return await in_thread(self._input_threads, lambda: self._inputs.renew(upload_id, owner))

    async def keep_input(
        self,
        upload_id: str,
        read: ReadAudio,
        size_bytes: int,
        audio: list["ObjectRef[bytes]"],
        owner: str = "",
    ) -> Upload:
        async with self._input_slots:  # of which only so many are held here
            data = [await arrived(one) for one in audio]
            keep = partial(self._inputs.keep, upload_id, read, size_bytes, *data, owner=owner)
            return await in_thread(self._input_threads, keep)

    async def remove_input(self, upload_id: str, owner: str | None = None) -> None:
        await in_thread(self._input_threads, lambda: self._inputs.remove(upload_id, owner))

    async def due_inputs(self) -> list[str]:
        return await in_thread(self._sweeper, self._inputs.due)

    async def sweep_inputs(self, due: Collection[str], pinned: Collection[str]) -> None:
        await in_thread(self._sweeper, lambda: self._inputs.sweep(due, pinned))
