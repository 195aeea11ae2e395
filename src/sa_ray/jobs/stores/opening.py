"""Choose the job store by the scheme of its URL.

Each is imported when it is chosen: but for the job actor, no process opens one, and SQLAlchemy,
psycopg and redis take a third of a second and 30 MiB.
"""

from sa_ray.errors import ConfigurationError
from sa_ray.jobs.stores.port import JobStore, Password


def open_job_store(url: str, password: Password | None = None) -> JobStore:
    """Open the store that ``STABLE_AUDIO_JOBS_URL`` names, creating or migrating it as needed.

    ``sqlite:///path`` is relative to the working directory, ``sqlite:////path`` absolute;
    ``postgresql://user@host/database`` and ``redis://host:6379/0`` (``rediss://`` over TLS) name
    servers. ``password`` is asked for at each new connection, in the place of one in ``url``, so
    that a changed one is found; what it raises as ``JobStoreError``, calls of the store raise.

    Raises ``ConfigurationError`` for another URL, ``JobStoreError`` if the store cannot be opened.
    """
    if _is_redis(url):
        from sa_ray.jobs.stores.redis_store.store import RedisJobStore

        return RedisJobStore(url, password)
    from sa_ray.jobs.stores.sql_store.store import SqlJobStore

    return SqlJobStore(url, password)


def reach_job_store(url: str, password: str | None) -> None:
    """Log in to the server of ``url``, and change nothing there.

    Raises ``ConfigurationError`` for a URL that cannot work, ``JobStoreError`` if the server does
    not answer or refuses.
    """
    if _is_redis(url):
        from sa_ray.jobs.stores.redis_store.connection import create_pool, ping

        ping(create_pool(url, lambda: password))
        return
    from sa_ray.jobs.stores.sql_store.engine import create_job_engine, reading, transaction

    engine = create_job_engine(url, lambda: password)
    try:
        with transaction(reading(engine)) as connection:
            connection.exec_driver_sql("SELECT 1")
    finally:
        engine.dispose()


def check_job_store_url(url: str) -> None:
    """Raise ``ConfigurationError`` if ``url`` can never work; nothing is opened or reached."""
    if _is_redis(url):
        from sa_ray.jobs.stores.redis_store.connection import create_pool

        create_pool(url).close()
    else:
        from sa_ray.jobs.stores.sql_store.engine import parse_url

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
