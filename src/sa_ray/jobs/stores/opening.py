"""Choose the job store by the scheme of its URL."""

from sa_ray.errors import ConfigurationError
from sa_ray.jobs.stores.port import JobStore
from sa_ray.jobs.stores.redis_store.store import RedisJobStore
from sa_ray.jobs.stores.sql_store.store import SqlJobStore


def open_job_store(url: str) -> JobStore:
    """Open the store that ``STABLE_AUDIO_JOBS_URL`` names, creating or migrating it as needed.

    ``sqlite:///path`` is relative to the working directory, ``sqlite:////path`` absolute;
    ``postgresql://user@host/database`` and ``redis://host:6379/0`` (``rediss://`` over TLS) name
    servers.

    Raises ``ConfigurationError`` for another URL, ``JobStoreError`` if the store cannot be opened.
    """
    scheme, separator, _ = url.partition("://")
    if separator and scheme.partition("+")[0] in ("sqlite", "postgresql"):
        return SqlJobStore(url)
    if separator and scheme in ("redis", "rediss"):
        return RedisJobStore(url)
    # Without a scheme the text may be anything, a password included: it is not repeated.
    fault = f"starts with {scheme}://" if separator else "has no scheme"
    raise ConfigurationError(
        f"STABLE_AUDIO_JOBS_URL {fault}; write sqlite:///path, "
        "postgresql://user:password@host/database or redis://:password@host:6379/0.",
        param="STABLE_AUDIO_JOBS_URL",
    )
