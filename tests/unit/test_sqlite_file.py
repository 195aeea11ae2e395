"""The file of jobs: its URL, whatever the path, and that one service at a time has it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sa_ray.app import resolve_paths
from sa_ray.errors import JobStoreError
from sa_ray.jobs import open_job_store
from sa_ray.jobs.sqlite_file import Claim, sqlite_path, sqlite_url
from sa_ray.settings import load_settings

HOLD = """
import sys
from sa_ray.jobs.sqlite_file import Claim

claim = Claim(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["a?b", "100%", "a%20b", "a%3Fb", "a#b", "a b", "Töne"])
def test_the_database_lies_in_the_working_directory_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    settings = resolve_paths(load_settings({"jobs_url": "sqlite:///own/jobs.db?timeout=3"}))
    monkeypatch.chdir(tmp_path)

    open_job_store(settings.jobs.jobs_url).close()

    assert (folder / "own" / "jobs.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sqlite_path(sqlite_url(folder)) == folder


@pytest.mark.parametrize(
    "url",
    ["redis://localhost/0", "postgresql://localhost/jobs", "sqlite:///:memory:", "sqlite://"],
)
def test_a_store_without_a_file_is_nobodys_claim(url: str) -> None:
    claims = [Claim(url, patience_s=0), Claim(url, patience_s=0)]

    assert [claim.release() for claim in claims] == [None, None]


def test_one_service_at_a_time_has_the_file(tmp_path: Path) -> None:
    database = tmp_path / "new" / "jobs.db"
    link = tmp_path / "link.db"
    link.symlink_to(database)
    first = Claim(sqlite_url(database))

    for url in (sqlite_url(database), sqlite_url(database, "timeout=3"), sqlite_url(link)):
        with pytest.raises(JobStoreError, match="is in use by another service") as caught:
            Claim(url, patience_s=0)

    assert "STABLE_AUDIO_JOBS_URL" in caught.value.message
    Claim(sqlite_url(tmp_path / "other.db"), patience_s=0).release()
    first.release()
    Claim(sqlite_url(database), patience_s=0).release()


def test_the_file_is_free_as_soon_as_its_service_is_killed(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "jobs.db")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(JobStoreError):
            Claim(url, patience_s=0)
        os.kill(holder.pid, signal.SIGKILL)

    Claim(url, patience_s=0).release()


def test_a_claim_waits_for_the_service_that_is_being_replaced(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "jobs.db")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert holder.stdin is not None
        holder.stdin.close()  # it ends now

        Claim(url, patience_s=60).release()


def test_a_folder_without_room_for_a_lock_is_left_to_sqlite_to_explain(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    Claim(sqlite_url(tmp_path / "file" / "jobs.db"), patience_s=0).release()
