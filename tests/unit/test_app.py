"""What each deployment is given: no more secrets than it needs."""

from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.serve import Application

from sa_ray.app import build, dispatcher, ingress, variant
from sa_ray.errors import ConfigurationError
from sa_ray.scheduling.costs import cost_of
from sa_ray.settings import Settings, load_settings

HF_TOKEN = "hf_planted_token"
S3_SECRET = "planted-s3-secret"
WEBHOOK_SECRET = "whsec_" + "cGxhbnRlZA" * 4

SECRETS = {HF_TOKEN, S3_SECRET, WEBHOOK_SECRET}


@pytest.fixture
def settings() -> Settings:
    return load_settings(
        {
            "hf_token": HF_TOKEN,
            "storage_bucket": "audio",
            "storage_access_key_id": "id",
            "storage_secret_access_key": S3_SECRET,
            "webhook_secret": WEBHOOK_SECRET,
        }
    )


@pytest.fixture
def small(settings: Settings) -> Application:
    cost = cost_of("small-sfx", "procedural", gpu=False)
    return variant("small-sfx", "procedural", settings, cost, on_gpu=False)


def secrets_of(application: Application) -> set[str]:
    """The planted secrets in what the deployment itself is constructed with."""
    bound: Any = application._bound_deployment
    arguments = [*bound.init_args, *bound.init_kwargs.values()]
    own = [argument for argument in arguments if not holds_applications(argument)]
    pickled = cloudpickle.dumps(own)
    return {secret for secret in SECRETS if secret.encode() in pickled}


def holds_applications(argument: object) -> bool:
    inside = argument.values() if isinstance(argument, dict) else [argument]
    return any(isinstance(one, Application) for one in inside)


def test_a_replica_of_a_model_holds_only_the_token_for_its_weights(small: Application) -> None:
    assert secrets_of(small) == {HF_TOKEN}


def test_the_dispatcher_holds_what_webhooks_and_downloads_need(
    settings: Settings, small: Application
) -> None:
    assert secrets_of(dispatcher(settings, {"small-sfx": small})) == {S3_SECRET, WEBHOOK_SECRET}


def test_the_ingress_holds_what_downloads_and_sealing_need(
    settings: Settings, small: Application
) -> None:
    bound = ingress("procedural", settings, {"small-sfx": small}, small)

    assert secrets_of(bound) == {S3_SECRET, WEBHOOK_SECRET}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("jobs_url", "mysql://u:hush@h/db"),
        ("jobs_url", "redis://:hush@h:port/0"),
        ("jobs_url", "hush.db"),
        ("jobs_url", "sqlite://"),
        ("public_url", "audio.example"),
        ("storage_prefix", "a//b"),
        ("storage_public_base_url", "cdn.example"),
        ("storage_endpoint_url", "minio:9000"),
    ],
)
def test_a_malformed_value_fails_before_anything_is_started(setting: str, value: str) -> None:
    before = ray.is_initialized()

    with pytest.raises(ConfigurationError, match=f"(?i){setting}") as refused:
        build({setting: value})

    assert "hush" not in refused.value.message
    assert ray.is_initialized() == before
