"""Connections to PostgreSQL that cannot hang, and what its errors mean."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event

from sa_ray.errors import ConfigurationError
from sa_ray.jobs.stores.port import Password

CONNECT_TIMEOUT_S = 5

ANSWER_TIMEOUT_S = 10.0
"""Time for a server to answer a statement. It bounds a server, pooler or route that falls silent,
even where TCP still acknowledges."""

STATEMENT_TIMEOUT_S = ANSWER_TIMEOUT_S - 1
"""Time after which the server gives a statement up: sooner, to tell it from a silent server."""

TRANSACTION_TIMEOUT_S = 20.0
"""Time after which the server ends a transaction, and with it the locks of a client that died."""

_WITH_TRANSACTION_TIMEOUT = 170_000
"""PostgreSQL 17, the first that has it. ``idle_in_transaction_session_timeout``, which all have,
does not see a client that died between the messages of a pipeline."""

CONNECTIONS = 26
"""Most connections kept open per process: enough for all threads of the coordinator."""

_CONNECT_ARGUMENTS = {
    "connect_timeout": str(CONNECT_TIMEOUT_S),
    # A connection that nobody uses for a while notices a dead peer in about 11 s.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": str(int(1000 * ANSWER_TIMEOUT_S)),
    # While a standby takes over, wait for a server that can be written.
    "target_session_attrs": "read-write",
}
"""Each may be set otherwise in the URL. Meanings: libpq, "Parameter Key Words"."""

_TRANSIENT_STATES = ("08", "25006", "25P03", "25P04", "40", "53", "55P03", "57", "58")
"""SQLSTATE codes and classes after which trying again can help: connection lost, read-only after a
failover, transaction idle or too long, serialization and deadlock, resources, locks, operator
intervention, system. Source: PostgreSQL, "PostgreSQL Error Codes"."""

_READ_ONLY = "25006"

_LASTING_REFUSALS = (
    "authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "permission denied",
)
"""Parts of messages of a server that refuses a connection for good; it gives no code then."""


def create_postgresql_engine(url: URL, password: Password | None = None) -> Engine:
    """Return an engine whose statements end within ``ANSWER_TIMEOUT_S`` seconds.

    ``password``: as for ``open_job_store``.
    """
    url = url.set(drivername="postgresql+psycopg")
    url = url.update_query_dict(
        {name: value for name, value in _CONNECT_ARGUMENTS.items() if name not in url.query}
    )
    engine = create_engine(url, pool_pre_ping=True, pool_size=CONNECTIONS, max_overflow=0)
    event.listen(engine, "do_connect", partial(_connect, password))
    event.listen(engine, "handle_error", _leave_read_only_server)
    return engine


def is_transient(error: Any) -> bool:
    """Return whether trying again can help after an error of psycopg."""
    if error.sqlstate is not None:
        return bool(error.sqlstate.startswith(_TRANSIENT_STATES))
    lasting = any(part in str(error) for part in _LASTING_REFUSALS)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not lasting


def require_known_parameters(url: URL, setting: str) -> None:
    """Raise ``ConfigurationError`` if the URL has a parameter that libpq does not know."""
    try:
        psycopg.conninfo.make_conninfo(**{name: str(value) for name, value in url.query.items()})
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"{setting} cannot be used: {str(error).strip()}. Correct its part after '?'.",
            param=setting,
        ) from None


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed if the server does not answer within ``answer_timeout_s``."""

    answer_timeout_s: float | None = ANSWER_TIMEOUT_S

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        began = time.monotonic()
        bound = self.answer_timeout_s if timeout is None else timeout
        try:
            return super().wait(gen, interval, bound)
        except psycopg.OperationalError as error:
            # Without this, its rollback would wait for the same server.
            self.close()
            if bound is not None and time.monotonic() - began >= bound:
                raise psycopg.OperationalError(f"no answer within {bound:g} s") from error
            raise


@contextmanager
def unbounded(connection: Connection) -> Iterator[None]:
    """Let statements of a transaction take as long as they need, as migrations may."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, BoundedConnection):
        yield
        return
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    if driver.info.server_version >= _WITH_TRANSACTION_TIMEOUT:
        connection.exec_driver_sql("SET LOCAL transaction_timeout = 0")
    driver.answer_timeout_s = None
    try:
        yield
    finally:
        del driver.answer_timeout_s


def _connect(
    password: Password | None,
    _dialect: Any,
    _record: Any,
    arguments: list[Any],
    parameters: dict[str, Any],
) -> Any:
    if password:
        # A copy: these are kept for the next connection.
        parameters = {**parameters, "password": password()}
    connection = BoundedConnection.connect(*arguments, **parameters)
    # The server ends a statement whose client has given up, and the locks of a dead client.
    seconds = {
        "statement_timeout": STATEMENT_TIMEOUT_S,
        "idle_in_transaction_session_timeout": TRANSACTION_TIMEOUT_S,
    }
    if connection.info.server_version >= _WITH_TRANSACTION_TIMEOUT:
        seconds["transaction_timeout"] = TRANSACTION_TIMEOUT_S
    with connection.cursor() as cursor:
        for name, value in seconds.items():
            cursor.execute(f"SET {name} = {int(1000 * value)}")
    connection.commit()
    return connection


def _leave_read_only_server(context: Any) -> None:
    # The server was demoted: whatever the address leads to now is found by connecting again.
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True
