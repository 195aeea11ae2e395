"""Open the object store that the settings name."""

from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.local import LocalObjectStore
from sa_ray.storage.port import ObjectStore
from sa_ray.storage.s3 import S3ObjectStore


def open_object_store(settings: StorageSettings) -> ObjectStore:
    """Return the bucket if one is configured, otherwise the local folder.

    Touches neither: ``check`` says whether the store works, and the first ``put`` makes the folder.
    Methods of the result may be called from several threads at once.
    """
    if settings.storage_backend == "s3":
        return S3ObjectStore(settings)
    return LocalObjectStore(settings.output_dir, public_base_url=settings.storage_public_base_url)
