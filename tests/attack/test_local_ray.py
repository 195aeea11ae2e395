"""The Ray of a local service runs no code of anybody else's, and tells them nothing."""

import os
from pathlib import Path

import httpx
import pytest

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest

from .conftest import Target
from .strangers import CALL_REPLICA, JOIN, as_nobody, run_without_token

pytestmark = pytest.mark.attack

LOOPBACK = ("127.0.0.1", "::ffff:127.0.0.1", "::1")

PATHS = ("/", "/health", "/metrics", "/api/version", "/api/jobs/", "/api/job_agent/jobs/")
"""Of the service, of Ray's dashboard, and of its metrics."""


def test_only_the_port_between_replicas_listens_beyond_loopback(target: Target) -> None:
    beyond = {name for (address, _), name in target.listens.items() if address not in LOOPBACK}

    assert {name.partition(":")[0] for name in target.listens.values()} >= {"ray", "raylet"}
    assert {name.split(":")[2] for name in beyond} == {"ServeReplica"}


@pytest.mark.parametrize(
    "environment",
    [{}, {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}],
    ids=["as Ray is by default", "without a token", "with a wrong token"],
)
def test_nobody_joins_without_the_token(
    target: Target, tmp_path: Path, environment: dict[str, str]
) -> None:
    [gcs] = target.ports("gcs_server")

    result = run_without_token(JOIN, f"127.0.0.1:{gcs}", home=tmp_path, **environment)

    assert result.returncode != 0
    assert "code ran" not in result.stdout
    assert "uthentication" in result.stderr or "UNAUTHENTICATED" in result.stderr


def test_a_replica_unpickles_nothing_without_the_token(target: Target, tmp_path: Path) -> None:
    token = (target.private / "auth_token").read_text()
    refused, touched = tmp_path / "refused", tmp_path / "touched"
    ports = [port for (address, port), _ in target.listens.items() if address not in LOOPBACK]

    answers = [
        run_without_token(CALL_REPLICA, f"127.0.0.1:{port}", str(refused), home=tmp_path).stdout
        for port in ports
    ]
    run_without_token(
        CALL_REPLICA,
        f"127.0.0.1:{ports[0]}",
        str(touched),
        f"authorization=Bearer {token}",
        home=tmp_path,
    )

    assert answers
    assert {answer.strip() for answer in answers} == {"UNAUTHENTICATED"}
    assert not refused.exists()
    assert touched.exists(), "the attack would not have worked with the token either"


def test_no_port_but_the_services_own_answers_over_http(target: Target) -> None:
    answered = set()
    for _, port in target.listens:
        for path in PATHS:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5)
            except httpx.TransportError:
                continue
            if answer.is_success:
                answered.add(port)

    assert answered == {target.service.port}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_reads_no_token_no_job_and_no_sound(target: Target) -> None:
    with Client(target.service.base_url) as client:
        job = client.wait(client.submit(GenerationRequest(prompt="a bell", duration=1)).id)
    assert job.status == "succeeded"
    [audio] = (target.folder / "outputs").glob("*.wav")
    database = target.folder / "jobs.db"

    for path in (target.private / "auth_token", database, audio):
        assert path.stat().st_size
        assert as_nobody("cat", str(path)).returncode != 0

    assert as_nobody("ls", str(target.private)).returncode != 0
    assert as_nobody("ls", str(target.folder)).returncode == 0
    assert "auth_token" not in as_nobody("sh", "-c", "cat /proc/[0-9]*/environ").stdout
