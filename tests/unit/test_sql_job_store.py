"""What only the SQL store promises: opening, migrations, and errors that say what to mend."""

import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine

from sa_ray.contracts import Job
from sa_ray.errors import ConfigurationError, JobStoreError
from sa_ray.jobs import lifecycle, open_job_store
from sa_ray.jobs.stores.sql_store.schema import MIGRATIONS, migrate
from sa_ray.jobs.stores.sql_store.store import SqlJobStore
from tests.support.jobs import insert, resolved

REQUEST = resolved()
JOB = lifecycle.new_job("a" * 32, REQUEST, 1000.0)


def url_of(path: Path, query: str = "") -> str:
    return f"sqlite:///{path}{query}"


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://localhost",
        "mysql://localhost/jobs",
        "sqlite",
        "",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///jobs.db",
        "postgresql+asyncpg://localhost/jobs",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_by_the_name_of_the_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="STABLE_AUDIO_JOBS_URL"):
        open_job_store(url)


def test_a_url_without_a_scheme_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_job_store("user:hunter2@db/jobs")
    assert "hunter2" not in refused.value.message


def test_the_parent_folders_are_made(tmp_path: Path) -> None:
    open_job_store(url_of(tmp_path / "a" / "b" / "jobs.db")).close()
    assert (tmp_path / "a" / "b" / "jobs.db").is_file()


def test_only_its_user_can_read_the_database_and_the_files_beside_it(tmp_path: Path) -> None:
    store = open_job_store(url_of(tmp_path / "a" / "jobs.db"))
    insert(store, JOB)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    store.close()

    assert modes.pop("a") == 0o700
    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600}


def test_a_path_under_a_file_is_a_lasting_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(JobStoreError, match="STABLE_AUDIO_JOBS_URL") as refused:
        open_job_store(url_of(tmp_path / "file" / "jobs.db"))

    assert not refused.value.transient


def test_a_path_that_is_a_folder_is_a_lasting_error(tmp_path: Path) -> None:
    with pytest.raises(JobStoreError, match="STABLE_AUDIO_JOBS_URL") as refused:
        open_job_store(url_of(tmp_path))
    assert not refused.value.transient


def test_a_file_that_is_no_database_is_a_lasting_error_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)

    with pytest.raises(JobStoreError, match="STABLE_AUDIO_JOBS_URL") as refused:
        open_job_store(url_of(path))

    assert not refused.value.transient
    assert path.read_text() == "not a database " * 100


def test_a_locked_database_is_a_passing_error_and_reads_go_on(tmp_path: Path) -> None:
    store = open_job_store(url_of(tmp_path / "jobs.db", "?timeout=0.01"))
    insert(store, JOB)
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    for write in (store.check, lambda: store.replace(lifecycle.cancel(JOB, 1001.0))):
        with pytest.raises(JobStoreError, match="locked") as refused:
            write()
        assert refused.value.transient
    assert store.get(JOB.id) == JOB

    other.execute("ROLLBACK")
    store.check()
    assert store.replace(lifecycle.cancel(JOB, 1001.0))

    other.close()
    store.close()


def test_commits_survive_a_power_cut(tmp_path: Path) -> None:
    store = SqlJobStore(url_of(tmp_path / "jobs.db"))

    with store._writer.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2

    store.close()


def test_an_empty_file_is_brought_up_to_date_and_reopening_keeps_everything(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.db"
    path.touch()

    for opening in range(3):
        store = open_job_store(url_of(path))
        if opening == 0:
            insert(store, JOB)
        assert store.get(JOB.id) == JOB
        store.close()

    assert sqlite3.connect(path).execute("SELECT * FROM schema_version").fetchall() == [
        (len(MIGRATIONS),)
    ]


def test_a_file_of_a_later_release_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    open_job_store(url_of(path)).close()
    with sqlite3.connect(path) as later:
        later.execute("UPDATE schema_version SET version = 999")

    with pytest.raises(JobStoreError, match="999") as refused:
        open_job_store(url_of(path))

    assert not refused.value.transient
    assert later.execute("SELECT version FROM schema_version").fetchall() == [(999,)]
    later.close()


def test_only_the_missing_steps_are_applied_in_order(tmp_path: Path) -> None:
    engine = create_engine(url_of(tmp_path / "jobs.db"))
    first = ("CREATE TABLE steps (name TEXT)", "INSERT INTO steps VALUES ('first')")
    second = ("INSERT INTO steps VALUES ('second')",)

    for known in ([first], [first, second], [first, second]):
        with engine.begin() as connection:
            migrate(connection, known)

    with engine.connect() as connection:
        assert rows(connection, "SELECT name FROM steps") == [("first",), ("second",)]
        assert rows(connection, "SELECT version FROM schema_version") == [(2,)]

    engine.dispose()


def rows(connection: Connection, query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(query)]


OPENER = """
import sys
from sa_ray.jobs import open_job_store

print("ready", flush=True)
for line in sys.stdin:
    store = open_job_store("sqlite:///" + line.strip())
    store.check()
    store.close()
    print("opened", flush=True)
"""


def test_two_processes_may_create_the_same_file_at_once(tmp_path: Path) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]

    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"

    for number in range(20):
        for opener in openers:
            assert opener.stdin is not None
            opener.stdin.write(f"{tmp_path}/{number}.db\n")
            opener.stdin.flush()
        for opener in openers:
            assert opener.stdout is not None
            assert opener.stdout.readline() == "opened\n"

    for opener in openers:
        opener.communicate(timeout=30)
        assert opener.returncode == 0


def test_writes_that_wait_together_fail_together_and_leave_nothing(tmp_path: Path) -> None:
    store = open_job_store(url_of(tmp_path / "jobs.db", "?timeout=0.05"))
    jobs = [lifecycle.new_job(f"{number:032x}", REQUEST, 1000.0) for number in range(12)]
    start = threading.Barrier(len(jobs))

    def outcome_of(job: Job) -> str:
        start.wait()
        try:
            insert(store, job)
        except JobStoreError as error:
            return error.message
        return "stored"

    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)

    with ThreadPoolExecutor(len(jobs)) as threads:
        other.execute("BEGIN IMMEDIATE")
        refused = list(threads.map(outcome_of, jobs))
        assert all("locked" in outcome for outcome in refused)
        other.execute("ROLLBACK")
        assert store.page(limit=100) == []
        assert list(threads.map(outcome_of, jobs)) == ["stored"] * len(jobs)

    assert len(store.page(limit=100)) == len(jobs)
    other.close()
    store.close()
