"""Upload job audio: retry until the store confirms, stop when nobody wants it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from sa_ray.contracts import MEDIA_TYPES, AudioFormat, ComponentHealth, StoredObject
from sa_ray.errors import ObjectStoreError
from sa_ray.storage.port import ObjectStore
from sa_ray.telemetry import log_context

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CONCURRENT_PUTS: Final = 4
"""Most uploads at once. Fewer already fill a network card; more would only cost memory."""

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 5.0
CHECK_PERIOD_S: Final = 15.0
GIVE_UP_REFUSED_S: Final = 3600.0
"""Seconds to retry a refusal that retrying rarely cures (a wrong secret)."""

Fetch = Callable[[], Awaitable[bytes]]
"""Fetches the bytes to upload; called again for each attempt."""


class Uploads:
    """Uploads to ``store`` and acknowledges only what it has confirmed. For one event loop.

    During an outage an upload retries for as long as its caller waits, without holding the bytes.
    ``key_of`` returns the object key of a job's audio; ``clock`` returns monotonic seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        key_of: Callable[[str, AudioFormat], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._key_of = key_of
        self._clock = clock
        self._sleep = sleep
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PUTS)
        self._under_way: dict[str, asyncio.Task[StoredObject]] = {}
        self._health = ComponentHealth(ok=False, message="not checked yet")
        self._checked = asyncio.Event()

    async def health(self) -> ComponentHealth:
        """Return the result of the last check; wait for the first one."""
        await self._checked.wait()
        return self._health

    async def upload(self, job_id: str, fmt: AudioFormat, fetch: Fetch) -> StoredObject:
        """Store the audio of a job and return what the store confirmed.

        An upload of the same job that is under way is stopped first. Raises ``ObjectStoreError`` if
        the store still refuses after ``GIVE_UP_REFUSED_S``, and what ``fetch`` raises.
        """
        await self._stop(job_id)
        work = asyncio.create_task(self._upload(job_id, fmt, fetch))
        self._under_way[job_id] = work
        try:
            return await work
        finally:
            if self._under_way.get(job_id) is work:
                del self._under_way[job_id]

    async def discard(self, job_id: str, fmt: AudioFormat) -> None:
        """Stop the job's upload if one is under way, and leave no object behind."""
        await self._stop(job_id)
        key = self._key_of(job_id, fmt)
        await in_thread(lambda: self._store.delete(key))

    async def check_forever(self) -> None:
        """Check the store every ``CHECK_PERIOD_S`` seconds, for ``health``."""
        while True:
            self._note(await self._check())
            self._checked.set()
            await self._sleep(CHECK_PERIOD_S)

    async def _stop(self, job_id: str) -> None:
        if work := self._under_way.get(job_id):
            work.cancel()
            await asyncio.wait({work})

    async def _upload(self, job_id: str, fmt: AudioFormat, fetch: Fetch) -> StoredObject:
        refused_since: float | None = None
        delay = FIRST_RETRY_S
        while True:
            try:
                async with self._slots:
                    stored = await self._attempt(job_id, fmt, fetch)
            except ObjectStoreError as error:
                self._health = ComponentHealth(ok=False, message=error.message)
                now = self._clock()
                refused_since = None if error.transient else refused_since or now
                if refused_since and now - refused_since > GIVE_UP_REFUSED_S:
                    raise
                with log_context(job_id=job_id):
                    logger.warning("upload failed, next try in %.1f s: %s", delay, error)
            else:
                self._health = ComponentHealth(ok=True)
                return stored
            await self._sleep(delay)
            delay = min(2 * delay, LAST_RETRY_S)

    async def _attempt(self, job_id: str, fmt: AudioFormat, fetch: Fetch) -> StoredObject:
        # In a method of its own, so that the bytes are freed while the upload waits.
        data = await fetch()
        return await in_thread(partial(self._put, self._key_of(job_id, fmt), data, fmt))

    def _put(self, key: str, data: bytes, fmt: AudioFormat) -> StoredObject:
        filename = key.rsplit("/", 1)[-1]
        return self._store.put(key, data, content_type=MEDIA_TYPES[fmt], filename=filename)

    async def _check(self) -> ComponentHealth:
        try:
            await in_thread(self._store.check)
        except ObjectStoreError as error:
            return ComponentHealth(ok=False, message=error.message)
        except Exception:
            logger.exception("checking the object store failed")
            return ComponentHealth(ok=False, message="The check failed; see the log.")
        return ComponentHealth(ok=True)

    def _note(self, health: ComponentHealth) -> None:
        if health != self._health and not health.ok:
            logger.error("the object store cannot be used: %s", health.message)
        self._health = health


async def in_thread(call: Callable[[], T]) -> T:
    """Run ``call`` in a thread; if cancelled, still wait for the thread, which cannot be stopped.

    Whoever deletes the object next must know that nothing writes it any more.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise
