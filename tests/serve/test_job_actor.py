"""The job actor by itself."""

import time
from pathlib import Path

import pytest
import ray

from sa_ray.errors import JobStoreError
from sa_ray.jobs.sqlite_file import Claim, sqlite_url
from sa_ray.serving.actors.job_actor import JobActor
from sa_ray.settings import load_settings


@pytest.mark.usefixtures("base_url")
def test_a_new_actor_answers_its_first_call(tmp_path: Path) -> None:
    settings = load_settings({"jobs_url": f"sqlite:///{tmp_path}/jobs.db"}).jobs
    actor = ray.remote(JobActor).remote(settings, "")

    assert ray.get(actor.page.remote(10), timeout=60) == []


@pytest.mark.usefixtures("base_url")
def test_a_file_that_another_service_uses_is_opened_when_that_has_ended(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "jobs.db")
    other = Claim(url)
    actor = ray.remote(JobActor).remote(load_settings({"jobs_url": url}).jobs, "")

    with pytest.raises(JobStoreError, match=r"jobs\.db is in use by another service") as caught:
        ray.get(actor.page.remote(10), timeout=60)
    assert "STABLE_AUDIO_JOBS_URL" in str(caught.value)

    other.release()
    deadline = time.monotonic() + 60
    while True:
        try:
            assert ray.get(actor.page.remote(10), timeout=60) == []
            break
        except JobStoreError:
            assert time.monotonic() < deadline
