"""A dispatcher that hears late, of a job that has ended without it."""

from contextlib import ExitStack

import pytest
import ray

from tests.support.commands import stopped
from tests.support.service import SLOW, Service

pytestmark = pytest.mark.cluster


def test_what_is_uploaded_for_a_job_that_is_gone_is_deleted(service: Service) -> None:
    job_id = service.submit(**SLOW)
    service.until(lambda: service.job(job_id)["progress"] > 0)
    audio = service.outputs / f"{job_id}.wav"
    actor = ray.get_actor("jobs-v1", namespace="sa_ray")

    with ExitStack() as held:
        with stopped("ray::ServeReplica:sa-ray:dispatcher"):
            ray.get(actor.release.remote(job_id, 1))  # as if its lease had run out
            assert service.http.delete(f"/jobs/{job_id}").json()["status"] == "cancelled"
            assert service.http.delete(f"/jobs/{job_id}").status_code == 204
            held.enter_context(stopped("ray::JobActor"))
        service.until(audio.exists)

    service.until(lambda: not audio.exists())
