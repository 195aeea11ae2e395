"""The uploader actor: a Ray shell that writes audio to the object store and reads it back."""

import asyncio
from functools import partial
from typing import Protocol

from ray import ObjectRef

from sa_ray.contracts import AudioFormat, ComponentHealth, StoredObject
from sa_ray.settings import StorageSettings
from sa_ray.storage import Uploads, in_thread, object_key, open_object_store
from sa_ray.telemetry import configure_logging


class UploaderApi(Protocol):
    """Methods of the uploader for other processes. Each may raise ``ObjectStoreError``."""

    async def health(self) -> ComponentHealth:
        """Return the result of the last check; wait for the first one."""
        ...

    async def upload(
        self, job_id: str, fmt: AudioFormat, audio: list["ObjectRef[bytes]"]
    ) -> StoredObject:
        """Store the audio of a job and return what the store confirmed.

        ``audio`` holds one reference; in a list, so that Ray hands over the reference and not a
        copy of the bytes. While the store is away, Ray's object store keeps the audio, and spills
        it to disk when memory is short. Raises Ray's own errors if the audio was lost with the
        process that owned it.
        """
        ...

    async def discard(self, job_id: str, fmt: AudioFormat) -> None:
        """Stop the job's upload, wherever it is, and leave no object behind."""
        ...

    async def size(self, key: str) -> int | None:
        """Size in bytes of the object, or None if there is none."""
        ...

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Read the bytes ``[start, start + length)`` of the object. A download is many of these
        calls: it goes at its client's pace, and outlives the actor."""
        ...


class Uploader(UploaderApi):
    """May be killed at any time: what it has not acknowledged is uploaded again."""

    async def __init__(  # type: ignore[misc] # Ray awaits it
        self, settings: StorageSettings, fingerprint: str
    ) -> None:
        configure_logging()
        self._fingerprint = fingerprint
        self._store = open_object_store(settings)
        self._uploads = Uploads(self._store, partial(object_key, settings))
        self._checker = asyncio.create_task(self._uploads.check_forever())

    async def fingerprint(self) -> str:
        return self._fingerprint

    async def health(self) -> ComponentHealth:
        return await self._uploads.health()

    async def upload(
        self, job_id: str, fmt: AudioFormat, audio: list["ObjectRef[bytes]"]
    ) -> StoredObject:
        async def fetch() -> bytes:
            return await audio[0]

        return await self._uploads.upload(job_id, fmt, fetch)

    async def discard(self, job_id: str, fmt: AudioFormat) -> None:
        await self._uploads.discard(job_id, fmt)

    async def size(self, key: str) -> int | None:
        return await in_thread(partial(self._store.size, key))

    async def read(self, key: str, start: int, length: int) -> bytes:
        return await in_thread(lambda: b"".join(self._store.read(key, start=start, length=length)))
