"""Secrets that are changed while the service runs, on real servers."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from redis.exceptions import AuthenticationError

from bench.databases import PostgresqlServer, RedisServer
from sa_ray.errors import JobStoreError, ObjectStoreError
from sa_ray.jobs import JobStore, open_job_store
from sa_ray.storage.s3 import REOPEN_PERIOD_S, S3ObjectStore
from tests.support.clock import Clock
from tests.support.object_stores import put, s3_settings
from tests.support.s3_server import S3Server
from tests.support.secret_settings import SecretFiles, environment, settings_of


class Passwords:
    """What a store asks for the password of its server."""

    def __init__(self) -> None:
        self.now: str | None = "first"

    def __call__(self) -> str | None:
        if self.now is None:
            raise JobStoreError("the password is not there")
        return self.now


@pytest.fixture
def passwords() -> Passwords:
    return Passwords()


@pytest.fixture
def redis_store(redis_db: RedisServer, passwords: Passwords) -> Iterator[JobStore]:
    with redis_db.client() as client:
        client.config_set("requirepass", "first")
    try:
        store = open_job_store(redis_db.url(), passwords)
        yield store
        store.close()
    finally:
        for password in ("first", "second"):  # whichever it has come to
            with redis_db.client(password=password) as client, suppress(AuthenticationError):
                client.config_set("requirepass", "")


def test_a_changed_password_of_redis_is_found(
    redis_store: JobStore, redis_db: RedisServer, passwords: Passwords
) -> None:
    redis_store.check()
    with redis_db.client(password="first") as client:
        client.config_set("requirepass", "second")
        client.client_kill_filter(_type="normal", skipme=True)
    passwords.now = None
    with pytest.raises(JobStoreError, match="the password is not there"):
        redis_store.check()

    passwords.now = "second"

    redis_store.check()


def test_a_changed_password_of_postgresql_is_found(
    postgresql_server: PostgresqlServer, passwords: Passwords
) -> None:
    user = f"keeper_{uuid4().hex[:8]}"
    postgresql_server.create_login(user, "first")
    store = open_job_store(
        f"postgresql://{user}@127.0.0.1:{postgresql_server.port}/{user}", passwords
    )
    store.check()
    with postgresql_server.connect() as connection:
        connection.execute(f"ALTER USER {user} PASSWORD 'second'")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [user]
        )
    with pytest.raises(JobStoreError, match="authentication failed") as refused:
        store.check()
    assert "first" not in refused.value.message

    passwords.now = "second"

    store.check()
    store.close()


def test_changed_keys_of_a_bucket_are_found(s3_server: S3Server, tmp_path: Path) -> None:
    clock, files = Clock(), SecretFiles(tmp_path)
    settings = settings_of(s3_settings(s3_server)).storage.sealed()
    files.args(s3_settings(s3_server))
    with environment(files.variables):
        store = S3ObjectStore(settings, clock=clock)
        put(store, f"{uuid4()}.wav", b"sound")
        files.args(s3_settings(s3_server, s3_server.reader))
        clock.now += REOPEN_PERIOD_S

        with pytest.raises(ObjectStoreError, match="credentials were refused"):
            put(store, f"{uuid4()}.wav", b"sound")
