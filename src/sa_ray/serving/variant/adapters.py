"""Adapters of a bucket, on the disk of the node that serves with them; those of a folder stay."""

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Final
from uuid import uuid4

from sa_ray.contracts import Lora, VariantName
from sa_ray.engines.adapters import MAX_BYTES, SUFFIX, kept_as, refusal
from sa_ray.errors import InfrastructureError
from sa_ray.storage import AdapterFiles, StoredAdapter

CACHE_BYTES: Final = 4 << 30
"""Most bytes of files that are kept on a node: a hundred or so."""

ABANDONED_AFTER_S: Final = 3600.0
"""Seconds after which a half-written file has no writer."""

_PART: Final = ".part"


def cache_folder() -> Path:
    """Return where a node keeps the adapters of a bucket: beside the models of Hugging Face."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(home).expanduser() / "sa-ray" / "loras"


class HeldAdapters:
    """Has the files of adapters lie where the engine reads them. For one event loop.

    Replicas of a node share ``cache``: a file that one of them holds is locked, and none removes
    it. ``files``: None if there are no adapters. ``max_bytes``: of the files in ``cache``, but for
    those that are held.
    """

    def __init__(
        self,
        variant: VariantName,
        files: AdapterFiles | None,
        cache: Path,
        max_bytes: int = CACHE_BYTES,
    ) -> None:
        self._variant = variant
        self._bucket = files if files is not None and files.folder is None else None
        self._cache = cache
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="adapters")
        self.folder = cache if self._bucket else files.folder if files else None
        """``EngineOptions.lora_dir``."""

    @asynccontextmanager
    async def held(self, loras: Sequence[Lora]) -> AsyncIterator[None]:
        """Have the files of ``loras`` be there for as long as the context lasts.

        Raises ``GenerationError`` if one is gone or was replaced, ``ObjectStoreError`` if the
        bucket is away, ``InfrastructureError`` if this node cannot keep it.
        """
        if self._bucket is None or not loras:
            yield
            return
        bucket, opened = self._bucket, list[BufferedReader]()
        loop = asyncio.get_running_loop()
        try:
            for lora in loras:
                # At once if it is there, so that nobody waits for what others lack. Those come one
                # after the other, in one thread: whoever asks for the same finds it there.
                file = self._found(lora)
                if file is None:
                    file = await loop.run_in_executor(self._threads, self._fetched, bucket, lora)
                opened.append(file)
            yield
        finally:
            for file in opened:
                file.close()

    def _found(self, lora: Lora) -> BufferedReader | None:
        path = self._path(lora)
        with _explained(lora):
            if (file := _locked(path)) is not None:
                os.utime(path)
            return file

    def _fetched(self, bucket: AdapterFiles, lora: Lora) -> BufferedReader:
        with _explained(lora):
            while (file := self._found(lora)) is None:
                self._fetch(bucket, lora, self._path(lora))
            return file

    def _path(self, lora: Lora) -> Path:
        return self._cache / self._variant / kept_as(lora.name, lora.sha256)

    def _fetch(self, bucket: AdapterFiles, lora: Lora, path: Path) -> None:
        stored = bucket.find(self._variant, lora.name)
        if stored is None:
            raise refusal(lora.name, "its file was removed after the request")
        if stored.size > MAX_BYTES:
            raise refusal(lora.name, f"its file is larger than {MAX_BYTES >> 20} MiB")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._make_room(stored)
        part = path.with_name(f"{uuid4().hex}{_PART}")
        digest = hashlib.sha256()
        try:
            with part.open("xb") as file:
                for piece in bucket.read(stored):
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != lora.sha256:
                raise refusal(lora.name, "its file was replaced after the request: send that again")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, stored: StoredAdapter) -> None:
        """Remove the files that were used last the longest ago."""
        files = []
        for path in self._cache.glob("*/kept/*"):
            with suppress(FileNotFoundError):
                info = path.stat()
                if path.suffix == SUFFIX:
                    files.append((info.st_mtime, info.st_size, path))
                elif path.suffix == _PART and time.time() - info.st_mtime > ABANDONED_AFTER_S:
                    path.unlink()
        left = sum(size for _, size, _ in files) + stored.size
        for _, size, path in sorted(files):
            if left <= self._max_bytes:
                break
            if _removed(path):
                left -= size


@contextmanager
def _explained(lora: Lora) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InfrastructureError(
            f"A node cannot keep the adapter {lora.name}: {error.strerror}."
        ) from error


def _locked(path: Path) -> BufferedReader | None:
    """Open a file that nobody removes until it is closed; None: it is not there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if os.fstat(file.fileno()).st_nlink:
        return file
    file.close()  # it was removed before it was locked
    return None


def _removed(path: Path) -> bool:
    """Remove a file, unless somebody holds it."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink()
    return True
