"""Upload job audio: retry until the store confirms, stop when nobody wants it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from sa_ray.contracts import MEDIA_TYPES, AudioFormat, ComponentHealth, StoredObject
from sa_ray.errors import InfrastructureError, ObjectStoreError, UnwritableKeyError
from sa_ray.storage.keys import file_name
from sa_ray.storage.port import ObjectStore
from sa_ray.storage.threads import in_thread
from sa_ray.telemetry import log_context

logger = logging.getLogger(__name__)

MAX_CONCURRENT_PUTS: Final = 4
"""Most uploads at once. Fewer already fill a network card; more would only cost memory."""

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 5.0
CHECK_PERIOD_S: Final = 15.0
GIVE_UP_REFUSED_S: Final = 3600.0
"""Seconds to retry a refusal that retrying rarely cures (a wrong secret)."""

FETCH_TIMEOUT_S = 60.0
"""Time for audio to arrive from its node: a node that hangs must not hold up all uploads."""

Fetch = Callable[[], Awaitable[bytes]]
"""Fetches the bytes to upload; called again for each attempt."""


async def arrived(audio: Awaitable[bytes]) -> bytes:
    """Return ``audio``; raise ``InfrastructureError`` after ``FETCH_TIMEOUT_S``."""
    try:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            return await audio
    except TimeoutError as error:
        raise InfrastructureError(
            f"The audio did not arrive within {FETCH_TIMEOUT_S:g} s from the node that made it."
        ) from error


class Uploads:
    """Uploads to ``store`` and acknowledges only what it has confirmed. For one event loop.

    During an outage an upload retries for as long as its caller waits, without holding the bytes.
    ``key_of`` returns the object key of a clip of an attempt (job id, fencing token, format,
    index); ``clock`` returns monotonic seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        key_of: Callable[[str, int, AudioFormat, int], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._key_of = key_of
        self._clock = clock
        self._sleep = sleep
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PUTS)
        self._writers = ThreadPoolExecutor(MAX_CONCURRENT_PUTS, "object-put")
        self._checker = ThreadPoolExecutor(1, "object-store-check")
        self._under_way: dict[str, dict[tuple[int, int], asyncio.Task[StoredObject]]] = {}
        self._health = ComponentHealth(ok=False, message="not checked yet")
        self._checked = asyncio.Event()

    async def health(self) -> ComponentHealth:
        """Return the result of the last check; wait for the first one."""
        await self._checked.wait()
        return self._health

    async def upload(
        self, job_id: str, token: int, fmt: AudioFormat, fetch: Fetch, index: int = 0
    ) -> StoredObject:
        """Store a clip of an attempt and return what the store confirmed.

        Uploads of earlier attempts, and of this clip, that are under way are stopped first. Raises
        ``UnwritableKeyError`` at once, any other ``ObjectStoreError`` if the store still refuses
        after ``GIVE_UP_REFUSED_S``, ``InfrastructureError`` if ``fetch`` takes longer than
        ``FETCH_TIMEOUT_S``, and what it raises.
        """
        clip = token, index
        await self._stop(job_id, lambda other: other[0] < token or other == clip)
        put = partial(self._put, job_id, token, fmt, index)
        work = asyncio.create_task(self._upload(job_id, put, fetch))
        under_way = self._under_way.setdefault(job_id, {})
        under_way[clip] = work
        try:
            return await work
        finally:
            if under_way.get(clip) is work:
                del under_way[clip]
            if not under_way and self._under_way.get(job_id) is under_way:
                del self._under_way[job_id]

    async def stop(self, job_id: str, *, up_to: int | None = None) -> None:
        """Stop what is under way for the job, of attempts up to the token ``up_to`` or of all."""
        await self._stop(job_id, lambda clip: up_to is None or clip[0] <= up_to)

    async def _stop(self, job_id: str, is_meant: Callable[[tuple[int, int]], bool]) -> None:
        under_way = self._under_way.get(job_id, {})
        works = {work for clip, work in under_way.items() if is_meant(clip)}
        for work in works:
            work.cancel()
        if works:
            await asyncio.wait(works)

    async def check_forever(self) -> None:
        """Check the store every ``CHECK_PERIOD_S`` seconds, for ``health``."""
        while True:
            self._note(await self._check())
            self._checked.set()
            await self._sleep(CHECK_PERIOD_S)

    async def _upload(
        self, job_id: str, put: Callable[[bytes], StoredObject], fetch: Fetch
    ) -> StoredObject:
        refused_since: float | None = None
        delay = FIRST_RETRY_S
        while True:
            try:
                async with self._slots:
                    stored = await self._attempt(put, fetch)
            except UnwritableKeyError:
                raise
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

    async def _attempt(self, put: Callable[[bytes], StoredObject], fetch: Fetch) -> StoredObject:
        # In a method of its own, so that the bytes are freed while the upload waits.
        data = await arrived(fetch())
        return await in_thread(self._writers, partial(put, data))

    def _put(
        self, job_id: str, token: int, fmt: AudioFormat, index: int, data: bytes
    ) -> StoredObject:
        return self._store.put(
            self._key_of(job_id, token, fmt, index),
            data,
            content_type=MEDIA_TYPES[fmt],
            filename=file_name(job_id, fmt, index),
        )

    async def _check(self) -> ComponentHealth:
        try:
            await in_thread(self._checker, self._store.check)
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
