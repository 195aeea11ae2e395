"""Files of adapters (LoRA): in a folder, or under a prefix of a bucket.

``<place>/<variant>/<name>.safetensors``. Files of other names are passed over.
"""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from sa_ray.contracts import LORA_NAME_PATTERN, VariantName
from sa_ray.errors import ObjectStoreError
from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.port import ObjectStore
from sa_ray.storage.s3 import S3ObjectStore
from sa_ray.storage.s3_endpoint import endpoint_of

SUFFIX: Final = ".safetensors"

MAX_LISTED: Final = 1000
"""Most adapters of a variant that are listed; any can be found by its name."""

PIECE_BYTES: Final = 1 << 20

_VARIABLE: Final = StorageSettings.variables("lora_dir")[0]


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """A file that is there. ``version`` changes when it is replaced. ``size``: bytes."""

    variant: VariantName
    name: str
    size: int
    version: str


class AdapterFiles(Protocol):
    """Methods block; call them from a thread. Each may raise ``ObjectStoreError``."""

    @property
    def folder(self) -> Path | None:
        """The folder, if they lie in one."""
        ...

    @property
    def fault(self) -> str | None:
        """Why there can be none now, as a sentence goes on after a colon; None: there may be."""
        ...

    def all(self, variant: VariantName) -> list[StoredAdapter]:
        """Return the files for ``variant`` in the order of their names, ``MAX_LISTED`` at most."""
        ...

    def find(self, variant: VariantName, name: str) -> StoredAdapter | None:
        """Return the file of the adapter ``name``, if there is one."""
        ...

    def read(self, adapter: StoredAdapter) -> Iterator[bytes]:
        """Yield the bytes of its file, a piece of at most 1 MiB at a time.

        What was replaced meanwhile is read as it is now: the digest tells.
        """
        ...


def open_adapters(settings: StorageSettings) -> AdapterFiles | None:
    """Return the adapters that ``STABLE_AUDIO_LORA_DIR`` names; None: it is not set."""
    if settings.lora_dir is None:
        return None
    if settings.lora_bucket is None:
        return AdapterFolder(Path(settings.lora_dir))
    changes: dict[str, object] = {
        "storage_bucket": settings.lora_bucket,
        "storage_public_base_url": None,
        # It may name the bucket of the audio.
        "storage_endpoint_url": endpoint_of(settings),
    }
    prefix = urlsplit(settings.lora_dir).path.strip("/")
    return AdapterBucket(S3ObjectStore(settings.model_copy(update=changes)), prefix)


class AdapterFolder:
    """Adapters in a folder of this machine; links in it may lead anywhere."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path | None:
        return self._folder

    @property
    def fault(self) -> str | None:
        missing = f"what {_VARIABLE} names is not a folder on the node that answers"
        return None if self._folder.is_dir() else missing

    def all(self, variant: VariantName) -> list[StoredAdapter]:
        with _explained(self._folder):
            try:
                files = sorted((self._folder / variant).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []
        found = (self.find(variant, file.stem) for file in files if file.suffix == SUFFIX)
        return list(islice((one for one in found if one), MAX_LISTED))

    def find(self, variant: VariantName, name: str) -> StoredAdapter | None:
        if not re.fullmatch(LORA_NAME_PATTERN, name):
            return None
        with _explained(self._folder):
            try:
                info = self._path(variant, name).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        if not stat.S_ISREG(info.st_mode):
            return None
        version = f"{info.st_ino}-{info.st_mtime_ns}-{info.st_size}"
        return StoredAdapter(variant, name, info.st_size, version)

    def read(self, adapter: StoredAdapter) -> Iterator[bytes]:
        path = self._path(adapter.variant, adapter.name)
        with _explained(self._folder), path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def _path(self, variant: VariantName, name: str) -> Path:
        return self._folder / variant / f"{name}{SUFFIX}"


class AdapterBucket:
    """Adapters in an object store. ``prefix``: of their keys, before the variant; may be empty."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = f"{prefix}/" if prefix else ""

    @property
    def folder(self) -> Path | None:
        return None

    @property
    def fault(self) -> str | None:
        return None

    def all(self, variant: VariantName) -> list[StoredAdapter]:
        found = []
        with _named():
            for item in self._store.objects(f"{self._prefix}{variant}"):
                name = item.key.rpartition("/")[2].removesuffix(SUFFIX)
                if item.key.endswith(SUFFIX) and re.fullmatch(LORA_NAME_PATTERN, name):
                    found.append(StoredAdapter(variant, name, item.size, item.version))
        return sorted(found, key=lambda one: one.name)[:MAX_LISTED]

    def find(self, variant: VariantName, name: str) -> StoredAdapter | None:
        if not re.fullmatch(LORA_NAME_PATTERN, name):
            return None
        with _named():
            item = self._store.find(self._key(variant, name))
        return StoredAdapter(variant, name, item.size, item.version) if item else None

    def read(self, adapter: StoredAdapter) -> Iterator[bytes]:
        with _named():
            yield from self._store.read(self._key(adapter.variant, adapter.name))

    def _key(self, variant: VariantName, name: str) -> str:
        return f"{self._prefix}{variant}/{name}{SUFFIX}"


@contextmanager
def _named() -> Iterator[None]:
    """Say whose bucket it is: the advice of the store is about that of the audio."""
    try:
        yield
    except ObjectStoreError as error:
        message = f"Adapters, which {_VARIABLE} names: {error.message}"
        raise ObjectStoreError(message, transient=error.transient) from error


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ObjectStoreError(
            f"The adapters in {folder} cannot be read: {reason}. Make them readable for this "
            f"process, or set {_VARIABLE}.",
            transient=not isinstance(error, PermissionError),
        ) from error
