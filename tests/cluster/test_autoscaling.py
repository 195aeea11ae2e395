"""Serve's own autoscaler with either policy: up from nothing under load, down, nothing lost."""

from typing import Any

import pytest

from sa_ray.settings import Autoscaling

from .conftest import MODEL, Deploy, replicas

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

CLIP = {"model": MODEL, "duration": 120, "steps": 50}
PROMPT = "muffled thunder, rain, wind, a siren, a choir and a drum loop"
"""About a second of work for the procedural engine."""

QUICK = {
    "look_back_period_s": 2,
    "metrics_interval_s": 1,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 2,
}
POLICIES: dict[Autoscaling, dict[str, Any]] = {
    "requests": {"target_ongoing_requests": 1},
    "backlog": {
        "target_ongoing_requests": 1,
        "policy": {
            "policy_function": "sa_ray.serving.autoscaling:BacklogPolicy",
            # Requests that cost next to nothing: only what replicas report makes them more.
            "policy_kwargs": {"target_wait": 1.0, "request_seconds": 0.001},
        },
    },
}


@pytest.mark.parametrize("policy", list(POLICIES))
def test_replicas_come_with_the_load_and_go_with_it(deploy: Deploy, policy: Autoscaling) -> None:
    service = deploy(QUICK | {"min_replicas": 0, "max_replicas": 3} | POLICIES[policy])
    service.until(lambda: replicas(service) == 0)

    jobs = [service.submit(**CLIP, prompt=f"{PROMPT} {number}") for number in range(16)]
    most = 0

    def grown() -> bool:
        nonlocal most
        most = max(most, replicas(service))
        return most == 3

    service.until(grown)
    views = [service.wait_for(job) for job in jobs]

    assert {view["status"] for view in views} == {"succeeded"}
    assert {view["attempts"] for view in views} == {1}

    service.until(lambda: replicas(service) == 0)


def test_work_in_flight_survives_a_downscale(deploy: Deploy) -> None:
    service = deploy(QUICK | {"min_replicas": 3, "max_replicas": 3} | POLICIES["backlog"])
    service.until(lambda: replicas(service) == 3)
    long = CLIP | {"duration": 380}
    jobs = [service.submit(**long, prompt=f"{PROMPT} {number}") for number in range(18)]
    service.until(lambda: sum(service.job(job)["progress"] > 0 for job in jobs) >= 9)

    deploy(QUICK | {"min_replicas": 1, "max_replicas": 1} | POLICIES["backlog"])
    service.until(lambda: replicas(service) == 1)

    assert service.health().running_jobs, "the work was too short for this test"
    views = [service.wait_for(job) for job in jobs]
    assert {view["status"] for view in views} == {"succeeded"}
    assert {view["attempts"] for view in views} == {1}
