"""What deployments and actors are given: no secret, and what they need to find their own."""

import subprocess
import sys
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.serve import Application

from sa_ray.app import build, dispatcher, ingress, variant
from sa_ray.errors import ConfigurationError
from sa_ray.scheduling.costs import cost_of
from sa_ray.serving.actors.provision import job_actor_spec, uploader_spec
from sa_ray.settings import Settings
from tests.support.secret_settings import VARIABLES, settings_of

SECRETS = {name: f"planted-{name}" for name in VARIABLES} | {
    "webhook_secret": "whsec_" + "cGxhbnRlZA" * 4
}


@pytest.fixture
def settings() -> Settings:
    return settings_of({**SECRETS, "storage_bucket": "audio", "jobs_url": "redis://h:6379/0"})


@pytest.fixture
def small(settings: Settings) -> Application:
    cost = cost_of("small-sfx", "procedural", gpu=False)
    return variant("small-sfx", "procedural", settings.sealed(), cost, on_gpu=False)


def arguments_of(application: Application) -> list[object]:
    """What the deployment itself is constructed with, other deployments left out."""
    bound: Any = application._bound_deployment
    arguments = [*bound.init_args, *bound.init_kwargs.values()]
    return [argument for argument in arguments if not holds_applications(argument)]


def holds_applications(argument: object) -> bool:
    inside = argument.values() if isinstance(argument, dict) else [argument]
    return any(isinstance(one, Application) for one in inside)


def test_no_secret_is_in_what_deployments_and_actors_are_constructed_with(
    settings: Settings, small: Application
) -> None:
    sealed = settings.sealed()
    given = [
        arguments_of(small),
        arguments_of(dispatcher(sealed, {"small-sfx": small})),
        arguments_of(ingress("procedural", sealed, {}, {"small-sfx": small}, small)),
        job_actor_spec(settings.jobs),
        uploader_spec(settings.storage),
    ]

    pickled = cloudpickle.dumps(given)

    assert not [name for name, secret in SECRETS.items() if secret.encode() in pickled]


def test_what_holds_a_secret_does_not_travel(settings: Settings) -> None:
    with pytest.raises(TypeError, match="storage_access_key_id is a secret"):
        cloudpickle.dumps(settings.storage)


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


def test_replicas_load_no_client_of_a_database() -> None:
    """They reach the job store by the job actor alone; each client costs them 30 MiB."""
    program = (
        "import sys, sa_ray.app;print({'sqlalchemy', 'psycopg', 'redis'}.intersection(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"
