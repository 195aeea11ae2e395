"""Limits of deployments that have to agree: what an ingress takes, and what variants refuse."""

from typing import Any

import pytest
from ray.serve import Application

from sa_ray.app import ingress, variant
from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import EngineName, VariantName
from sa_ray.scheduling.costs import cost_of
from sa_ray.serving.deployment_options import OTHER_REQUESTS
from sa_ray.serving.request_bounds import MAX_UNFINISHED
from sa_ray.settings import Settings, load_settings

ENGINE: EngineName = "stable-audio-3"


def variants_of(settings: Settings) -> dict[VariantName, Application]:
    """The variants of the real model on CPUs, where a clip takes longest."""
    return {
        name: variant(name, ENGINE, settings, cost_of(name, ENGINE, gpu=False), on_gpu=False)
        for name in VARIANTS
    }


def options_of(application: Application) -> Any:
    return application._bound_deployment


def ingress_of(settings: Settings) -> Any:
    variants = variants_of(settings)
    costs = {name: cost_of(name, ENGINE, gpu=False) for name in VARIANTS}
    return options_of(ingress(ENGINE, settings, costs, variants, variants["small-sfx"]))


@pytest.mark.parametrize("max_replicas", [1, 4, 63, 1000])
@pytest.mark.parametrize("max_batch_rows", [1, 8, 64])
@pytest.mark.parametrize("max_queued_requests", [1, 64, 5000])
@pytest.mark.parametrize("max_waiting_requests", [1, 1000, 5000])
def test_the_ingress_can_say_429_for_every_variant_whoever_waits_for_jobs(
    max_replicas: int, max_batch_rows: int, max_queued_requests: int, max_waiting_requests: int
) -> None:
    variant = {"max_replicas": max_replicas, "max_batch_rows": max_batch_rows}
    settings = load_settings(
        {
            "variants": dict.fromkeys(VARIANTS, variant),
            "max_queued_requests": max_queued_requests,
            "max_waiting_requests": max_waiting_requests,
        }
    )

    refused_at = sum(
        max_replicas * one.max_ongoing_requests + one.max_queued_requests
        for one in map(options_of, variants_of(settings).values())
    )

    room = ingress_of(settings).max_ongoing_requests - max_waiting_requests
    assert room >= refused_at + OTHER_REQUESTS


def test_bodies_that_do_not_end_leave_room_for_other_requests() -> None:
    """Also where nothing stands in front of the proxy, and each takes a slot."""
    assert MAX_UNFINISHED < OTHER_REQUESTS


def test_what_the_ingress_has_no_room_for_is_refused_and_told_when_to_come_back() -> None:
    ingress = ingress_of(load_settings({}))

    assert 0 < ingress.max_queued_requests < 10_000
    assert ingress.backpressure_config.status_code == 429
    assert ingress.backpressure_config.retry_after_s >= 1


def test_a_stopping_ingress_has_the_grace_that_operators_set_whatever_clips_take() -> None:
    settings = load_settings({"variants": {"medium": {"grace_seconds": 240.0}}})

    graces = {
        name: options_of(one)._deployment_config.graceful_shutdown_timeout_s
        for name, one in variants_of(settings).items()
    }
    grace = ingress_of(settings)._deployment_config.graceful_shutdown_timeout_s

    assert graces["medium"] > 1000
    assert grace == 240


@pytest.mark.parametrize("max_replicas", [1, 8, 32])
def test_as_many_may_come_at_once_as_replicas_have_places_and_may_wait(max_replicas: int) -> None:
    """Serve counts as waiting whatever is not sent yet, however idle the replicas are."""
    settings = load_settings({"variants": {"medium": {"max_replicas": max_replicas}}})

    medium = options_of(variants_of(settings)["medium"])

    places = max_replicas * medium.max_ongoing_requests
    assert medium.max_queued_requests >= places + settings.limits.max_queued_requests
