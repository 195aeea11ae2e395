"""An object in the object store."""

from sa_ray.contracts.names import AudioFormat, StorageBackend
from sa_ray.contracts.record import Record


class StoredObject(Record):
    """An object that the store has confirmed."""

    backend: StorageBackend
    key: str
    size: int
    """Bytes."""
    sha256: str
    """Lower-case hex digest of the content."""
    location: str | None = None
    """``ObjectStore.location`` of the store that took it. Null in older records, which did not keep
    it: it means the store in use."""


class MarkedFile(Record):
    """A client's file as it was sent, kept since it carries a C2PA manifest."""

    object: StoredObject
    format: AudioFormat
