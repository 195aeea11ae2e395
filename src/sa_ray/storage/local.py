"""Object store in a local folder, one file an object: the embedded default."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from sa_ray.contracts import RESERVED_NAMES, StorageBackend, StoredObject
from sa_ray.errors import ObjectStoreError, UnwritableKeyError
from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.keys import public_url, require_sound
from sa_ray.storage.port import ListedObject

CHUNK_BYTES: Final = 1 << 20

ABANDONED_AFTER_S: Final = 3600.0
"""Seconds after which an untouched half-written file has no writer: writing takes seconds."""

_VARIABLE: Final = StorageSettings.variables("output_dir")[0]

_LASTING: Final = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
        errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EXDEV,
    }
)  # fmt: skip
"""Errors that last until somebody fixes the folder; others (a full disk, a lost mount) may pass."""


class LocalObjectStore:
    """Objects are files under ``folder``, at their key. A key may not be the folder of another.

    Files are written aside, flushed to disk and renamed, so a reader sees the old object or the new
    one, even after a loss of power. Keys that would leave the folder, by ``..`` or through a
    symbolic link, raise ``ObjectStoreError`` (``transient=False``).

    Files and folders that it makes are readable by this user alone. With a ``public_base_url``,
    where another process serves the files, the umask decides.
    """

    def __init__(self, folder: Path, *, public_base_url: str | None = None) -> None:
        self._folder = folder.absolute()
        self._public_base_url = public_base_url
        self._partial = self._folder / f"{RESERVED_NAMES}partial"
        self._open_to = 0o777 if public_base_url else 0o700

    @property
    def backend(self) -> StorageBackend:
        return "local"

    @property
    def location(self) -> str:
        return self._folder.as_uri()

    def check(self) -> None:
        probe = self._folder / f"{RESERVED_NAMES}check"
        content = uuid4().bytes
        with self._explained("used"):
            self._remove_abandoned()
            self._write(probe, content)
            # Another process on the same folder may check at this moment and remove the file.
            with suppress(FileNotFoundError):
                probe.read_bytes()
                probe.unlink()

    def put(self, key: str, data: bytes, *, content_type: str, filename: str) -> StoredObject:
        """Store ``data``; ``content_type`` and ``filename`` have no place in a file."""
        path = self._path(key)
        with self._explained("written to"):
            self._write(path, data)
            size = path.stat().st_size
        return StoredObject(
            backend=self.backend,
            key=key,
            size=size,
            sha256=hashlib.sha256(data).hexdigest(),
            location=self.location,
        )

    def size(self, key: str) -> int | None:
        found = self.find(key)
        return found.size if found else None

    def find(self, key: str) -> ListedObject | None:
        path = self._path(key)
        with self._explained("read"):
            try:
                info = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            return _listed(key, info) if stat.S_ISREG(info.st_mode) else None

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        path = self._path(key)
        with self._explained("read"):
            try:
                file = path.open("rb")
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise ObjectStoreError(f"There is no object {key}.", transient=False) from None
            with file:
                left = os.fstat(file.fileno()).st_size if length is None else length
                file.seek(start)
                while chunk := file.read(min(CHUNK_BYTES, left)):
                    left -= len(chunk)
                    yield chunk

    def objects(self, folder: str) -> Iterator[ListedObject]:
        with self._explained("read"), suppress(FileNotFoundError, NotADirectoryError):
            for path in self._path(folder).iterdir():
                with suppress(FileNotFoundError):
                    info = path.stat()
                    if stat.S_ISREG(info.st_mode):
                        yield _listed(f"{folder}/{path.name}", info)

    def delete(self, keys: Collection[str]) -> Mapping[str, ObjectStoreError]:
        failures = {}
        changed = set()
        for key in keys:
            try:
                path = self._path(key)
                with self._explained("written to"), suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
                    changed.add(path.parent)
            except ObjectStoreError as error:
                failures[key] = error
        with self._explained("written to"):
            for folder in changed:
                _flush_folder(folder)
        return failures

    def url(self, key: str) -> str | None:
        require_sound(key)
        return public_url(self._public_base_url, key) if self._public_base_url else None

    def _path(self, key: str) -> Path:
        require_sound(key)
        path = self._folder / key
        with self._explained("used"):
            inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._folder))
        if not inside:
            raise UnwritableKeyError(f"{key!r} leads out of {self._folder}.", transient=False)
        return path

    def _write(self, path: Path, data: bytes) -> None:
        _make_folder(path.parent, self._open_to)
        _make_folder(self._partial, self._open_to)
        partial = self._partial / uuid4().hex
        mode = 0o666 & self._open_to
        try:
            with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)

    def _remove_abandoned(self) -> None:
        if not self._partial.is_dir():
            return
        for path in self._partial.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                    path.unlink()

    @contextmanager
    def _explained(self, use: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            advice = (
                "Free some space on its disk."
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else f"Make it a folder that this process can write to, or set {_VARIABLE}."
            )
            raise ObjectStoreError(
                f"The output folder {self._folder} cannot be {use}: {reason}. {advice}",
                transient=error.errno not in _LASTING,
            ) from error


def _listed(key: str, info: os.stat_result) -> ListedObject:
    return ListedObject(key, info.st_mtime, info.st_size, f"{info.st_ino}-{info.st_mtime_ns}")


def _make_folder(folder: Path, mode: int) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent, mode)
        folder.mkdir(mode, exist_ok=True)
        _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    """Make a rename, creation or removal in ``folder`` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
