"""Connections to Redis that cannot hang, and what its errors mean."""

import re
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,  # noqa: A004 - its own
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - its own
    TryAgainError,
)
from redis.retry import Retry

from sa_ray.errors import ConfigurationError, JobStoreError
from sa_ray.jobs.stores.port import Password

SETTING = "STABLE_AUDIO_JOBS_URL"

MAX_CONNECTIONS = 32
CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 3
"""Also bounds a server or route that falls silent. A call is tried twice."""
POOL_TIMEOUT_S = 10

_PASSING = (
    ConnectionError,
    TimeoutError,
    ReadOnlyError,
    OutOfMemoryError,
    MasterDownError,
    TryAgainError,
)
"""Errors that the client knows; it strips their codes."""

_PASSING_REFUSALS = re.compile(r"\b(OOM|MISCONF|BUSY|LOADING|READONLY|MASTERDOWN|NOREPLICAS)\b")
"""Error codes of Redis that may pass; those met by a script come inside a longer message."""


class FreshPassword(redis.CredentialProvider):
    """Has each new connection ask for the password, which may have been changed."""

    def __init__(self, username: str | None, password: Password) -> None:
        self._username = username
        self._password = password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return user, if there is one, and password."""
        try:
            password = self._password() or ""
        except JobStoreError as error:
            # The client closes a connection that could not log in for errors of its own alone.
            raise ConnectionError(error.message) from error
        return (self._username, password) if self._username else (password,)


def create_pool(url: str, password: Password | None = None) -> "redis.BlockingConnectionPool":
    """Return connections whose calls end in seconds, whatever the server does.

    ``password``: as for ``open_job_store``. Raises ``ConfigurationError`` if the URL cannot be
    used.
    """
    try:
        database = urlsplit(url).path.strip("/")
        if database and not database.isdigit():  # the client would take database 0
            raise ValueError(database)
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=POOL_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=30,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
        )
        if password:
            pool.connection_kwargs.pop("password", None)
            username = pool.connection_kwargs.pop("username", None)
            pool.connection_kwargs["credential_provider"] = FreshPassword(username, password)
        pool.connection_class(**pool.connection_kwargs)  # options are looked at only here
    except TypeError as error:
        raise ConfigurationError(
            f"{SETTING} has an option that the Redis client does not know "
            f"({_unknown_option(error)}). Leave it out; for TLS write rediss://.",
            param=SETTING,
        ) from None
    except ValueError:
        raise ConfigurationError(
            f"{SETTING} is not a Redis URL; write it like redis://:password@host:6379/0.",
            param=SETTING,
        ) from None
    return pool


def ping(pool: "redis.ConnectionPool") -> None:
    """Have the server answer once, and close ``pool``. Raises ``JobStoreError`` if it does not."""
    try:
        redis.Redis(connection_pool=pool).ping()
    except RedisError as error:
        raise JobStoreError(
            f"{without_password(pool)} ({SETTING}) does not answer as it should: {error}.",
            transient=is_passing(error),
        ) from error
    finally:
        pool.disconnect()


def is_read_only(error: RedisError) -> bool:
    """Return whether the server has become a replica."""
    # Of a script, servers before Redis 7 give the code within a longer message.
    return isinstance(error, ReadOnlyError) or "READONLY" in str(error)


def is_passing(error: RedisError) -> bool:
    """Return whether trying again can help."""
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return False
    if isinstance(error, _PASSING):
        return True
    return isinstance(error, ResponseError) and bool(_PASSING_REFUSALS.search(str(error)))


def without_password(pool: "redis.ConnectionPool") -> str:
    """Return the address of the server as messages may show it."""
    to = pool.connection_kwargs
    if "path" in to:
        return f"unix://{to['path']}"
    return f"redis://{to.get('host', 'localhost')}:{to.get('port', 6379)}/{to.get('db', 0)}"


def _unknown_option(error: TypeError) -> str:
    return str(error).rpartition("argument ")[2]
