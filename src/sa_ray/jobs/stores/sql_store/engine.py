"""SQLAlchemy engines for the job store: SQLite made durable, and errors made ours."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sa_ray.errors import ConfigurationError, JobStoreError
from sa_ray.jobs.stores.port import Password
from sa_ray.jobs.stores.sql_store.postgresql import (
    create_postgresql_engine,
    is_transient,
    require_known_parameters,
)

SETTING = "STABLE_AUDIO_JOBS_URL"

SQLITE_BUSY_TIMEOUT_S = 10
"""Seconds that a transaction waits for another process to end its own; ``?timeout=`` overrides."""

_LASTING_SQLITE_ERRORS = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
)

_READ_ONLY = "sa_ray_read_only"


def create_job_engine(url: str, password: Password | None = None) -> Engine:
    """Return an engine whose transactions take the write lock from their start.

    ``password``: as for ``open_job_store``; SQLite has none. Raises as ``parse_url`` does, and
    ``JobStoreError`` if the folder of a SQLite file cannot be made.
    """
    parsed = parse_url(url)
    if _is_sqlite(parsed):
        return _create_sqlite_engine(parsed)
    return create_postgresql_engine(parsed, password)


def parse_url(url: str) -> URL:
    """Return the parts of a URL. Raises ``ConfigurationError`` if it can never be used."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise ConfigurationError(
            f"{SETTING} is not a database URL; write it like sqlite:///.sa-ray/jobs.db.",
            param=SETTING,
        ) from None
    if _is_sqlite(parsed):
        _require_file(parsed)
        return parsed
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        require_known_parameters(parsed, SETTING)
        return parsed
    raise ConfigurationError(
        f"{SETTING} starts with {parsed.drivername}://; use sqlite:/// or postgresql://.",
        param=SETTING,
    )


def reading(engine: Engine) -> Engine:
    """Return the same engine for single statements that only read, and so wait for no writer."""
    return engine.execution_options(**{_READ_ONLY: True})


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Run a transaction, committed at the end; database errors come out as ``JobStoreError``."""
    try:
        with engine.begin() as connection:
            yield connection
    except (DBAPIError, PoolTimeoutError) as error:
        raise _storage_error(error, engine.url) from error


def _is_sqlite(url: URL) -> bool:
    return url.drivername == "sqlite"


def _require_file(url: URL) -> None:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigurationError(
            f"{SETTING} names no file, and jobs must outlive the process; write it like "
            "sqlite:///.sa-ray/jobs.db.",
            param=SETTING,
        )


def _create_sqlite_engine(url: URL) -> Engine:
    path = Path(str(url.database))
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JobStoreError(
            f"The folder {folder} of the job database cannot be made ({error.strerror}); "
            f"set {SETTING} to a path that can be written.",
            transient=False,
        ) from error
    # Prompts are private. SQLite gives the files beside it the same mode. A file that cannot be
    # created here is explained when SQLite fails on it. An existing file must not be opened, since
    # closing it would drop the locks of other connections in this process.
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    if "timeout" not in url.query:
        url = url.update_query_dict({"timeout": str(SQLITE_BUSY_TIMEOUT_S)})
    engine = create_engine(url)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # None: the driver must not open transactions of its own beside those of _begin_sqlite.
    connection.isolation_level = None
    _switch_to_wal(connection)
    # In WAL mode NORMAL would lose the last commits with the power; acknowledged jobs must stay.
    connection.execute("PRAGMA synchronous = FULL")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait (as it does for transactions) where two processes switch a new file
    # at once: one of them gets SQLITE_BUSY immediately.
    deadline = time.monotonic() + SQLITE_BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns to writing fails at once if another has written since.
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    # A read is one statement, which is a transaction already.
    if not read_only:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _storage_error(error: DBAPIError | PoolTimeoutError, url: URL) -> JobStoreError:
    where = url.set(query={}).render_as_string(hide_password=True)
    cause: Any = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.Error):
        lasting = _primary_code(cause) in _LASTING_SQLITE_ERRORS
        transient = isinstance(error, OperationalError) and not lasting
    else:
        transient = isinstance(error, PoolTimeoutError) or is_transient(cause)
    advice = "" if transient else f" Check {SETTING}: the path, its permissions and its content."
    return JobStoreError(
        f"The job database {where} failed: {str(cause).strip()}.{advice}", transient=transient
    )


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's error code without its variant (the higher bytes); 0 if it was not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
