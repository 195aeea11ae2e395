"""The job actor by itself."""

from pathlib import Path

import pytest
import ray

from sa_ray.serving.job_actor import JobActor


@pytest.mark.usefixtures("base_url")
def test_a_new_actor_answers_its_first_call(tmp_path: Path) -> None:
    actor = ray.remote(JobActor).remote(f"sqlite:///{tmp_path}/jobs.db", 10, 60.0, "")

    assert ray.get(actor.page.remote(10, None, None, None), timeout=60) == []
