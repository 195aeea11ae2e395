"""The Ray of a local service runs no code of anybody else's, and tells them nothing."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import httpx
import pytest

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest

from .conftest import Target
from .strangers import CALL_REPLICA, JOIN, START_SYNC, as_nobody, run_without_token

pytestmark = pytest.mark.attack

LOOPBACK = ("127.0.0.1", "::ffff:127.0.0.1", "::1")

PATHS = ("/", "/health", "/metrics", "/api/version", "/api/jobs/", "/api/job_agent/jobs/")
"""Of the service, of Ray's dashboard, and of its metrics."""


def test_only_the_port_between_replicas_listens_beyond_loopback(target: Target) -> None:
    beyond = {name for (address, _), name in target.listens.items() if address not in LOOPBACK}

    assert {name.partition(":")[0] for name in target.listens.values()} >= {"ray", "raylet"}
    assert {name.split(":")[2] for name in beyond} == {"ServeReplica"}


def test_nobody_joins_without_the_token(target: Target, tmp_path: Path) -> None:
    [gcs] = target.ports("gcs_server")
    attempts: list[dict[str, str]] = [
        {},  # as Ray is by default
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
    ]

    with ThreadPoolExecutor(len(attempts)) as threads:  # most wait until they are ended
        results = threads.map(
            lambda known: run_without_token(JOIN, f"127.0.0.1:{gcs}", home=tmp_path, **known),
            attempts,
        )

    for result in results:
        assert result.returncode != 0
        assert "code ran" not in result.stdout
        assert "Connecting to existing Ray cluster" in result.stderr


def test_a_replica_unpickles_nothing_for_strangers(target: Target, tmp_path: Path) -> None:
    token = (target.private / "auth_token").read_text()
    pair = f"{target.private / 'tls.crt'}:{target.private / 'tls.key'}"
    refused, touched = tmp_path / "refused", tmp_path / "touched"
    addresses = [
        f"127.0.0.1:{port}" for (address, port) in target.listens if address not in LOOPBACK
    ]
    attacks = [
        [""],
        ["", f"authorization=Bearer {token}"],
        [pair],
        [pair, f"authorization=Bearer {'0' * 64}"],
    ]

    def attacked(known: tuple[str, list[str]]) -> str:
        address, attack = known
        script = (CALL_REPLICA, address, str(refused), *attack)
        return run_without_token(*script, home=tmp_path).stdout.strip()

    with ThreadPoolExecutor(4) as threads:
        answers = set(threads.map(attacked, product(addresses, attacks)))
    allowed = [pair, f"authorization=Bearer {token}"]
    run_without_token(CALL_REPLICA, addresses[0], str(touched), *allowed, home=tmp_path)

    assert answers == {"UNAVAILABLE", "UNAUTHENTICATED"}
    assert not refused.exists()
    assert touched.exists(), "the attack would not have worked with both either"


def test_no_call_of_a_stranger_ends_a_process(target: Target, tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{port}" for process in ("gcs_server", "raylet")
                 for port in target.ports(process)]  # fmt: skip

    answers = [
        run_without_token(START_SYNC, address, home=tmp_path).stdout.strip()
        for address in addresses
    ]

    assert len(answers) >= 2
    assert set(answers) == {"UNAVAILABLE"}
    with Client(target.service.base_url) as client:
        job = client.wait(client.submit(GenerationRequest(prompt="a bell", duration=1)).id)
    assert job.status == "succeeded"


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

    # Where HAProxy hands requests to, and Serve's own proxy: they look at who asks, too.
    behind = target.ports("ray::ServeReplica:sa-ray:ingress") + target.ports("ray::ProxyActor")
    assert answered <= {target.service.port, *behind}
    assert target.service.port in answered


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_reads_no_token_no_job_and_no_sound(target: Target) -> None:
    with Client(target.service.base_url) as client:
        job = client.wait(client.submit(GenerationRequest(prompt="a bell", duration=1)).id)
    assert job.status == "succeeded"
    audio = target.folder / "outputs" / f"{job.id}.wav"
    database = target.folder / "jobs.db"

    secrets = [target.private / name for name in ("auth_token", "tls.key")]
    for path in (*secrets, database, audio):
        assert path.stat().st_size
        assert as_nobody("cat", str(path)).returncode != 0

    assert as_nobody("ls", str(target.private)).returncode != 0
    assert as_nobody("ls", str(target.folder)).returncode == 0
    assert "auth_token" not in as_nobody("sh", "-c", "cat /proc/[0-9]*/environ").stdout
