"""Settings of the Stable Audio API server, in effect over HTTP."""

from typing import Any

import pytest
from ray import serve

from tests.support.service import Service

from .conftest import Deploy


@pytest.fixture(scope="module")
def tuned(deploy: Deploy) -> Service:
    return deploy(
        default_model="small-music",
        preload_models="small-sfx,small-music",
        max_duration=5,
        max_steps=4,
    )


def test_preloaded_models_have_a_replica_before_the_first_request(tuned: Service) -> None:
    deployments = serve.status().applications["sa-ray"].deployments

    for name in ("small-sfx", "small-music"):
        states: dict[Any, int] = deployments[name].replica_states
        assert states["RUNNING"] >= 1
    assert tuned.health().preload_models == ["small-sfx", "small-music"]


def test_the_default_model_answers_a_request_that_names_none(tuned: Service) -> None:
    assert tuned.health().model == "small-music"
    assert tuned.generate(duration=1, steps=4).headers["x-model"] == "small-music"


def test_the_api_wide_limits_are_shown_and_kept(tuned: Service) -> None:
    health = tuned.health()

    assert (health.max_duration_seconds, health.max_steps) == (5, 4)
    assert set(health.model_duration_limits_seconds.values()) == {5}
    assert tuned.generate(duration=5, steps=4).status_code == 200
    too_long = tuned.generate(duration=5.1, steps=4)
    too_many = tuned.generate(duration=5, steps=5)
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (422, "duration")
    assert (too_many.status_code, too_many.json()["error"]["param"]) == (422, "steps")
