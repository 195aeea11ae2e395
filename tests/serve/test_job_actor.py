"""The job actor by itself."""

from pathlib import Path

import pytest
import ray

from sa_ray.serving.actors.job_actor import JobActor
from sa_ray.settings import load_settings


@pytest.mark.usefixtures("base_url")
def test_a_new_actor_answers_its_first_call(tmp_path: Path) -> None:
    settings = load_settings({"jobs_url": f"sqlite:///{tmp_path}/jobs.db"}).jobs
    actor = ray.remote(JobActor).remote(settings, "")

    assert ray.get(actor.page.remote(10), timeout=60) == []
