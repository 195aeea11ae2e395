"""The uploader actor: writes finished audio to the object store, reads it back for downloads."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ray import ObjectRef

from sa_ray.config import Settings
from sa_ray.contracts import MEDIA_TYPES, AudioFormat, ComponentHealth, StoredObject
from sa_ray.errors import StorageError
from sa_ray.storage import object_key, open_object_store
from sa_ray.telemetry import configure_logging, log_context

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CONCURRENT_PUTS = 4
"""Uploads at once. One network card is full well before that; more only costs memory."""

FIRST_RETRY_S = 0.5
LAST_RETRY_S = 5.0
CHECK_PERIOD_S = 15.0
GIVE_UP_REFUSED_S = 3600.0
"""How long a refusal that retrying rarely mends (a wrong secret) is retried all the same."""


class Uploader:
    """Acknowledges only what the store has confirmed.

    While the store is away an upload waits and tries again for as long as its caller does. What
    waits is the object reference, so Ray's object store keeps the audio, and spills it to disk
    when memory is short.
    """

    async def __init__(  # type: ignore[misc] # Ray awaits it
        self, settings: Settings, fingerprint: str
    ) -> None:
        configure_logging()
        self._fingerprint = fingerprint
        self._settings = settings
        self._store = open_object_store(settings)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PUTS)
        self._uploads: dict[str, asyncio.Task[StoredObject]] = {}
        self._health = ComponentHealth(ok=False, message="not checked yet")
        self._checked = asyncio.Event()
        self._checker = asyncio.create_task(self._check_forever())

    async def fingerprint(self) -> str:
        return self._fingerprint

    async def health(self) -> ComponentHealth:
        """The result of the last check; waits for the first one."""
        await self._checked.wait()
        return self._health

    async def upload(
        self, job_id: str, fmt: AudioFormat, audio: list["ObjectRef[bytes]"]
    ) -> StoredObject:
        """Store the audio of a job and return what the store confirmed.

        ``audio`` holds one reference; in a list, so that Ray hands over the reference and not a
        copy of the bytes. Raises ``StorageError`` if the store goes on refusing, and Ray's own
        errors if the audio was lost with the process that owned it.
        """
        await self._stop_upload(job_id)
        work = asyncio.create_task(self._upload(job_id, fmt, audio[0]))
        self._uploads[job_id] = work
        try:
            return await work
        finally:
            if self._uploads.get(job_id) is work:
                del self._uploads[job_id]

    async def discard(self, job_id: str, fmt: AudioFormat) -> None:
        """Stop the job's upload, wherever it is, and leave no object behind."""
        await self._stop_upload(job_id)
        await self.delete(object_key(self._settings, job_id, fmt))

    async def _stop_upload(self, job_id: str) -> None:
        if work := self._uploads.get(job_id):
            work.cancel()
            await asyncio.wait({work})

    async def _upload(
        self, job_id: str, fmt: AudioFormat, audio: "ObjectRef[bytes]"
    ) -> StoredObject:
        refused_since: float | None = None
        delay = FIRST_RETRY_S
        while True:
            try:
                async with self._slots:
                    stored = await self._attempt(job_id, fmt, audio)
                self._health = ComponentHealth(ok=True)
                return stored
            except StorageError as error:
                self._health = ComponentHealth(ok=False, message=error.message)
                now = time.monotonic()
                refused_since = None if error.transient else refused_since or now
                if refused_since and now - refused_since > GIVE_UP_REFUSED_S:
                    raise
                with log_context(job_id=job_id):
                    logger.warning("upload failed, next try in %.1f s: %s", delay, error)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY_S)

    async def _attempt(
        self, job_id: str, fmt: AudioFormat, audio: "ObjectRef[bytes]"
    ) -> StoredObject:
        # In a method of its own, so that the bytes are let go while the upload waits.
        data = await audio
        key = object_key(self._settings, job_id, fmt)
        return await _in_thread(partial(self._put, key, data, fmt))

    def _put(self, key: str, data: bytes, fmt: AudioFormat) -> StoredObject:
        filename = key.rsplit("/", 1)[-1]
        return self._store.put(key, data, content_type=MEDIA_TYPES[fmt], filename=filename)

    async def size(self, key: str) -> int | None:
        return await _in_thread(lambda: self._store.size(key))

    async def read(self, key: str, start: int, length: int) -> bytes:
        """The bytes ``[start, start + length)`` of the object. A download is many of these calls:
        it goes at its client's pace, and outlives this actor."""
        return await _in_thread(lambda: b"".join(self._store.read(key, start=start, length=length)))

    async def delete(self, key: str) -> None:
        await _in_thread(lambda: self._store.delete(key))

    async def _check_forever(self) -> None:
        while True:
            try:
                await _in_thread(self._store.check)
                health = ComponentHealth(ok=True)
            except StorageError as error:
                health = ComponentHealth(ok=False, message=error.message)
            except Exception:
                logger.exception("checking the object store failed")
                health = ComponentHealth(ok=False, message="The check failed; see the log.")
            if health != self._health:
                if not health.ok:
                    logger.error("the object store cannot be used: %s", health.message)
                self._health = health
            self._checked.set()
            await asyncio.sleep(CHECK_PERIOD_S)


async def _in_thread(call: Callable[[], T]) -> T:
    """Run ``call`` in a thread. Cancelled, it still waits for the thread, which can't be stopped:
    whoever deletes the object next must know that nothing writes it any more."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise
