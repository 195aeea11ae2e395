"""Object keys: their names, their validity and their public URLs."""

from urllib.parse import quote

from sa_ray.contracts import AudioFormat, is_sound_key
from sa_ray.errors import ObjectStoreError
from sa_ray.settings.storage import StorageSettings


def object_key(settings: StorageSettings, job_id: str, fmt: AudioFormat) -> str:
    """Return the key of a job's audio.

    ``<prefix>/<job id>.<format>`` in a bucket; without the prefix in a local folder.
    """
    name = f"{job_id}.{fmt}"
    return name if settings.storage_backend == "local" else prefixed(settings, name)


def prefixed(settings: StorageSettings, name: str) -> str:
    """Put ``name`` under the configured key prefix, which may be empty."""
    prefix = settings.storage_prefix
    return f"{prefix}/{name}" if prefix else name


def require_sound(key: str) -> None:
    """Raise ``ObjectStoreError`` unless ``key`` stays inside the store (``is_sound_key``)."""
    if not is_sound_key(key):
        raise ObjectStoreError(f"{key!r} cannot be the key of an object.", transient=False)


def public_url(base_url: str, key: str) -> str:
    """Return the address of an object under ``base_url``, which may end in a slash."""
    return f"{base_url.rstrip('/')}/{quote(key)}"
