"""Choose the job store by the scheme of its URL."""

from sa_ray.errors import ConfigurationError
from sa_ray.jobs.stores.port import JobStore, Password
from sa_ray.jobs.stores.redis_store.connection import create_pool, ping
from sa_ray.jobs.stores.redis_store.store import RedisJobStore
from sa_ray.jobs.stores.sql_store.engine import create_job_engine, parse_url, reading, transaction
from sa_ray.jobs.stores.sql_store.store import SqlJobStore


def open_job_store(url: str, password: Password | None = None) -> JobStore:
    """Open the store that ``STABLE_AUDIO_JOBS_URL`` names, creating or migrating it as needed.

    ``sqlite:///path`` is relative to the working directory, ``sqlite:////path`` absolute;
    ``postgresql://user@host/database`` and ``redis://host:6379/0`` (``rediss://`` over TLS) name
    servers. ``password`` is asked for at each new connection, in the place of one in ``url``, so
    that a changed one is found; what it raises as ``JobStoreError``, calls of the store raise.

    Raises ``ConfigurationError`` for another URL, ``JobStoreError`` if the store cannot be opened.
    """
    return RedisJobStore(url, password) if _is_redis(url) else SqlJobStore(url, password)


def reach_job_store(url: str, password: str | None) -> None:
    """Log in to the server of ``url``, and change nothing there.

    Raises ``ConfigurationError`` for a URL that cannot work, ``JobStoreError`` if the server does
    not answer or refuses.
    """
    if _is_redis(url):
        ping(create_pool(url, lambda: password))
        return
    engine = create_job_engine(url, lambda: password)
    try:
        with transaction(reading(engine)) as connection:
            connection.exec_driver_sql("SELECT 1")
    finally:
        engine.dispose()


def check_job_store_url(url: str) -> None:
    """Raise ``ConfigurationError`` if ``url`` can never work; nothing is opened or reached."""
    if _is_redis(url):
        create_pool(url).close()
    else:
        parse_url(url)


def _is_redis(url: str) -> bool:
    scheme, separator, _ = url.partition("://")
    if separator and scheme in ("redis", "rediss"):
        return True
    if separator and scheme.partition("+")[0] in ("sqlite", "postgresql"):
        return False
    # Without a scheme the text may be anything, a password included: it is not repeated.
    fault = f"starts with {scheme}://" if separator else "has no scheme"
    raise ConfigurationError(
        f"STABLE_AUDIO_JOBS_URL {fault}; write sqlite:///path, "
        "postgresql://user:password@host/database or redis://:password@host:6379/0.",
        param="STABLE_AUDIO_JOBS_URL",
    )
