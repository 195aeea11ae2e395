"""Secrets of a running service: each process reads its own, and finds changed ones."""

import platform
import secrets
import time
from collections.abc import Iterator

import pytest
import ray
from ray.exceptions import RayTaskError

from bench.databases import RedisServer
from sa_ray.app import build
from sa_ray.errors import JobStoreError
from sa_ray.serving.actors.job_actor import JobActor
from sa_ray.serving.actors.provision import job_actor_spec
from tests.support.secret_settings import SecretFiles, settings_of


@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize(
    ("variable", "text"),
    [("R2_SECRET_ACCESS_KEY", "hush"), ("STABLE_AUDIO_JOBS_URL", "redis://:hush@h/0")],
)
def test_a_secret_in_the_runtime_environment_is_refused(variable: str, text: str) -> None:
    in_environment = ray.remote(build).options(runtime_env={"env_vars": {variable: text}})

    with pytest.raises(RayTaskError, match=f"{variable} holds a secret") as refused:
        ray.get(in_environment.remote({}), timeout=60)

    assert "hush" not in str(refused.value)


@pytest.fixture
def guarded(redis_db: RedisServer) -> Iterator[str]:
    """The password that Redis wants."""
    password = secrets.token_hex(8)
    with redis_db.client() as client:
        client.config_set("requirepass", password)
    yield password
    with redis_db.client(password=password) as client:
        client.config_set("requirepass", "")


@pytest.mark.usefixtures("base_url")
def test_a_node_without_the_password_says_so_until_it_has_it(
    redis_db: RedisServer, guarded: str, secret_files: SecretFiles
) -> None:
    settings = settings_of({"jobs_url": redis_db.url(), "jobs_password": guarded}).jobs
    path = secret_files.path("jobs_password")
    path.unlink()
    spec = job_actor_spec(settings)
    actor = ray.remote(JobActor).remote(spec.settings, spec.fingerprint)

    with pytest.raises(JobStoreError) as refused:
        ray.get(actor.page.remote(10), timeout=60)
    for named in (platform.node(), "STABLE_AUDIO_JOBS_PASSWORD_FILE", str(path)):
        assert named in str(refused.value)

    path.write_text(guarded)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert ray.get(actor.page.remote(10), timeout=60) == []
            break
        except JobStoreError:
            assert time.monotonic() < deadline
