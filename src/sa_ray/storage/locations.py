"""The store in use, and the places where earlier settings have put objects."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sa_ray.contracts import StoredObject
from sa_ray.errors import ObjectElsewhereError
from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.opening import open_object_store
from sa_ray.storage.port import ObjectStore
from sa_ray.storage.s3_endpoint import endpoint_of


class ObjectStores:
    """Finds each object where its record says that it was put. Thread-safe.

    ``current`` takes new objects. Another bucket of the same endpoint is reached with the present
    credentials, another folder if this machine has it.

    A folder that is gone is taken to have moved to the present one, and another endpoint to be a
    new name of the present one if the bucket has the same name. Whoever deletes must look first.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self.current = open_object_store(settings)
        self._others: dict[str, ObjectStore] = {}

    def holding(self, stored: StoredObject) -> ObjectStore:
        """Return the store to ask for the object.

        Raises ``ObjectElsewhereError`` if the present settings reach no such store.
        """
        if stored.backend != self.current.backend:
            raise elsewhere(stored)
        if stored.location is None or stored.location == self.current.location:
            return self.current
        if stored.backend == "local":
            folder = Path(unquote(urlsplit(stored.location).path))
            if not folder.is_dir():
                return self.current
            return self._other(stored.location, output_dir=folder)
        there, here = urlsplit(stored.location), urlsplit(self.current.location)
        if there.netloc == here.netloc:
            return self._other(stored.location, storage_bucket=there.path.strip("/"))
        if there.path == here.path:
            return self.current
        raise elsewhere(stored)

    def url(self, stored: StoredObject) -> str | None:
        """Return ``ObjectStore.url`` of the object. Raises what ``holding`` and that raise."""
        return self.holding(stored).url(stored.key)

    def _other(self, location: str, **where: Path | str) -> ObjectStore:
        if location not in self._others:
            # A public address leads to the present place alone.
            changes: dict[str, object] = {**where, "storage_public_base_url": None}
            # An endpoint may name the present bucket.
            changes["storage_endpoint_url"] = endpoint_of(self._settings)
            self._others[location] = open_object_store(self._settings.model_copy(update=changes))
        return self._others[location]


def elsewhere(stored: StoredObject, reason: str = "") -> ObjectElsewhereError:
    """Return the error that tells where the object is and how to reach it."""
    fix = "STABLE_AUDIO_OUTPUT_DIR" if stored.backend == "local" else "STABLE_AUDIO_STORAGE_BUCKET"
    others = "" if stored.backend == "local" else ", its endpoint and its keys"
    return ObjectElsewhereError(
        f"The audio is {stored.key} in {stored.location or f'the {stored.backend} store'}, which "
        f"the service does not reach now{reason and f' ({reason})'}. Set {fix}{others} back to "
        "reach it, or remove it there."
    )
