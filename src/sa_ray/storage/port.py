"""The object store port: keeps finished audio."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from sa_ray.contracts import StorageBackend, StoredObject
from sa_ray.errors import ObjectStoreError


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object that is there. ``modified_at``: when it was put, Unix seconds of the store."""

    key: str
    modified_at: float
    size: int
    """Bytes."""
    version: str
    """Changes with the content, as far as the store tells without reading it."""


class ObjectStore(Protocol):
    """Keys are ``/``-separated relative paths. Methods block; call them from a thread.

    Every method raises ``ObjectStoreError`` when the store refuses (``transient=False``: wrong
    credentials, no such bucket, read-only) or cannot be reached (``transient=True``).
    """

    @property
    def backend(self) -> StorageBackend: ...

    @property
    def location(self) -> str:
        """URL of the bucket or folder, without credentials; kept with every object stored."""
        ...

    def check(self) -> None:
        """Prove that objects can be written, read and deleted now, or raise ``ObjectStoreError``.

        The message names what to fix: the folder and its permission, the bucket, the setting.
        """
        ...

    def put(self, key: str, data: bytes, *, content_type: str, filename: str) -> StoredObject:
        """Store ``data`` under ``key``, replacing an earlier object, and return what was confirmed.

        A reader never sees half an object. ``filename``: the name that a browser saves it under.
        Raises ``UnwritableKeyError`` if no object can ever have that key.
        """
        ...

    def size(self, key: str) -> int | None:
        """Return the size of the object in bytes, or None if there is none."""
        ...

    def find(self, key: str) -> ListedObject | None:
        """Return the object as ``objects`` does, or None if there is none."""
        ...

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes ``[start, start + length)`` in chunks of at most 1 MiB.

        Raises ``ObjectStoreError`` (``transient=False``) if there is no such object.
        """
        ...

    def objects(self, folder: str) -> Iterator[ListedObject]:
        """Yield the objects with keys ``<folder>/<name>``, in no order, however many there are.

        One that is put or deleted meanwhile may be there or not.
        """
        ...

    def delete(self, keys: Collection[str]) -> Mapping[str, ObjectStoreError]:
        """Remove the objects; no error if one is already gone.

        Returns why for each key that is not removed. Raises what stands against all of them.
        """
        ...

    def url(self, key: str) -> str | None:
        """Return a URL that a client can GET without credentials of ours, minted now.

        None if the store has no HTTP address of its own (a local folder without a public base URL).
        """
        ...
