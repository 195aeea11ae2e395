"""Object keys: their names, their validity and their public URLs."""

from itertools import product
from urllib.parse import quote

from sa_ray.contracts import AudioFormat, Job, is_sound_key
from sa_ray.errors import UnwritableKeyError
from sa_ray.settings.storage import StorageSettings


def object_key(
    settings: StorageSettings, job_id: str, token: int, fmt: AudioFormat, index: int = 0
) -> str:
    """Return the key of a clip of one attempt at a job.

    ``<prefix>/<job id>.<format>`` in a bucket; without the prefix in a local folder. Attempts after
    the first, by fencing token, have keys of their own (``<job id>-<token>``), so a worker that
    has lost its lease cannot touch what a later one stored. Clips after the first of an attempt
    have their ``index`` behind that (``<job id>_<index>``, ``<job id>-<token>_<index>``).
    """
    name = _name(job_id, token, fmt, index)
    return name if settings.storage_backend == "local" else prefixed(settings, name)


def attempt_keys(settings: StorageSettings, job: Job) -> list[str]:
    """Return the keys that attempts at ``job`` may have left, beside that of its result if any."""
    fmt = job.request.format
    clips = list(product(range(1, job.token + 1), range(job.request.n)))
    if job.result is None:
        return [object_key(settings, job.id, token, fmt, index) for token, index in clips]
    # Beside the result, whatever the prefix is now.
    folder = job.result.object.key.rpartition("/")[0]
    names = (_name(job.id, token, fmt, index) for token, index in clips)
    return [f"{folder}/{name}" if folder else name for name in names]


def prefixed(settings: StorageSettings, name: str) -> str:
    """Put ``name`` under the configured key prefix, which may be empty."""
    prefix = settings.storage_prefix
    return f"{prefix}/{name}" if prefix else name


def require_sound(key: str) -> None:
    """Raise ``UnwritableKeyError`` unless ``key`` stays inside the store (``is_sound_key``)."""
    if not is_sound_key(key):
        raise UnwritableKeyError(f"{key!r} cannot be the key of an object.", transient=False)


def public_url(base_url: str, key: str) -> str:
    """Return the address of an object under ``base_url``, which may end in a slash."""
    return f"{base_url.rstrip('/')}/{quote(key)}"


def attachment(filename: str) -> str:
    """Return a Content-Disposition header (RFC 6266, appendix D: ASCII before the full name)."""
    plain = "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename
    )
    extended = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


def file_name(job_id: str, fmt: AudioFormat, index: int) -> str:
    """Return the name by which a browser saves a clip of a job, whichever attempt made it."""
    return _name(job_id, 1, fmt, index)


def _name(job_id: str, token: int, fmt: AudioFormat, index: int) -> str:
    attempt = job_id if token <= 1 else f"{job_id}-{token}"
    return f"{attempt}_{index}.{fmt}" if index else f"{attempt}.{fmt}"
