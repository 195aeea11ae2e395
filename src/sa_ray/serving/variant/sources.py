"""Sources of edits: fetched from the object store, checked, decoded, and kept for a while."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Protocol, TypeVar

from sa_ray.audio import Origin, laid_out
from sa_ray.contracts import SAMPLE_RATE, Source, StoredObject
from sa_ray.engines import Audio
from sa_ray.errors import GenerationError, ObjectStoreError

CACHE_BYTES: Final = 256 << 20
"""Decoded audio that a replica keeps: twelve minutes of stereo. Variations and retries come soon
after each other."""

PIECE_BYTES: Final = 8 << 20
"""Bytes that are read at once."""

_Key = tuple[str, int, int]
"""Digest of the object, the sample of the clip at which it begins, and samples of the clip."""

T = TypeVar("T")


class Reader(Protocol):
    """What is asked of the uploader actor."""

    async def size(self, stored: StoredObject) -> int | None: ...

    async def read(self, stored: StoredObject, start: int, length: int) -> bytes: ...


class Sources:
    """Reads the audio of sources. What was read last is kept, up to ``max_bytes`` decoded."""

    def __init__(
        self,
        reader: Reader,
        decode: Callable[[bytes], Audio],
        threads: Executor,
        max_bytes: int = CACHE_BYTES,
    ) -> None:
        """``decode`` returns stereo at the rate of the engine; it runs in ``threads``."""
        self._reader = reader
        self._decode = decode
        self._threads = threads
        self._max_bytes = max_bytes
        self._kept: OrderedDict[_Key, Audio] = OrderedDict()
        self._reading: dict[_Key, asyncio.Task[Audio]] = {}

    async def audio(self, source: Source, frames: int) -> Audio:
        """Return ``frames`` samples with ``source`` at its place in them; do not write to them.

        Whoever asks for the same meanwhile waits for the same, and goes on at the same moment, so
        that variations of a clip share a batch.

        Raises ``GenerationError`` if it is gone, ``ObjectStoreError`` if the store is away or has
        another.
        """
        key = (source.object.sha256, round(source.at * SAMPLE_RATE), frames)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._read(source, key))
            task.add_done_callback(lambda _: self._reading.pop(key))
        return await asyncio.shield(task)

    async def _read(self, source: Source, key: _Key) -> Audio:
        data = await self._file(source, source.object)
        _, at, frames = key
        audio = await self._threaded(lambda: laid_out(self._decode(data), at, frames))
        self._keep(key, audio)
        return audio

    async def origin(self, source: Source) -> Origin:
        """Return the files of ``source``. Raises as ``audio`` does."""
        stored = await self._file(source, source.object)
        if source.marked is None:
            return Origin(stored)
        sent = await self._file(source, source.marked.object)
        return Origin(stored, sent, source.marked.format)

    async def _file(self, source: Source, stored: StoredObject) -> bytes:
        data = bytearray()
        while len(data) < stored.size:
            length = min(PIECE_BYTES, stored.size - len(data))
            try:
                piece = await self._reader.read(stored, len(data), length)
            except ObjectStoreError as error:
                if error.transient or await self._reader.size(stored) is not None:
                    raise
                raise _gone(source) from None
            if not piece:
                break
            data += piece
        digest = await self._threaded(lambda: hashlib.sha256(data).hexdigest())
        if digest != stored.sha256:
            raise ObjectStoreError(
                f"{stored.key} holds other bytes than were uploaded.", transient=False
            )
        return bytes(data)

    async def _threaded(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _keep(self, key: _Key, audio: Audio) -> None:
        self._kept[key] = audio
        held = sum(one.nbytes for one in self._kept.values())
        while held > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            held -= dropped.nbytes


def _gone(source: Source) -> GenerationError:
    return GenerationError(
        f"The upload {source.upload_id} is no longer there. Send its audio again with POST "
        "/v1/uploads, and ask again. The same file gets the same id."
    )
