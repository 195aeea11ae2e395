"""The overlay for a laptop, as cluster/README.md tells it, from nothing to audio and back."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.kubernetes.conftest import Figures
from tests.kubernetes.kube import HEAD, Kube
from tests.kubernetes.manifests import KIND_CPU, apply, render

START_TIMEOUT_S = 600.0
DELETE_TIMEOUT_S = 420.0


@contextmanager
def forwarded(kube: Kube, port: int) -> Iterator[httpx.Client]:
    """The service at a port of this machine, once it answers there."""
    words = ["kubectl", "--namespace", kube.namespace, "port-forward", "service/sa-ray-serve-svc"]
    with (
        subprocess.Popen([*words, f"{port}:8000"], stdout=subprocess.PIPE, text=True) as forward,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            assert forward.stdout
            assert "Forwarding from" in forward.stdout.readline()
            yield client
        finally:
            forward.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.kubernetes
@pytest.mark.timeout(1800)
def test_from_nothing_to_audio_and_back(kube: Kube, figures: Figures) -> None:
    begun = time.monotonic()
    apply(kube, render(kube, KIND_CPU))
    kube.until(lambda: kube.ready(HEAD), START_TIMEOUT_S)
    figures.note("kind-cpu: head Ready", time.monotonic() - begun, "")
    kube.until(kube.is_serving, START_TIMEOUT_S)
    figures.note("kind-cpu: serving", time.monotonic() - begun, "")

    with forwarded(kube, free_port()) as client:
        clip = client.post("/v1/audio/generations", json={"prompt": "a bell", "duration": 1})
        assert (clip.status_code, clip.content[:4]) == (200, b"RIFF"), clip.text
        figures.note("kind-cpu: first audio", time.monotonic() - begun, "")
        job = client.post("/jobs", json={"prompt": "rain", "duration": 1}).json()
        ended = {"succeeded", "failed"}
        kube.until(lambda: client.get(f"/jobs/{job['id']}").json()["status"] in ended, 60)
        audio = client.get(f"/jobs/{job['id']}/audio", follow_redirects=True)
        assert audio.content[:4] == b"RIFF", audio.text

    with figures.timed("kind-cpu: deleted", "nothing left"):
        kube.run("delete", "rayservice", "sa-ray")
        kube.until(lambda: left(kube) == [], DELETE_TIMEOUT_S)
    kube.run("delete", "namespace", kube.namespace, "--timeout=120s")


def left(kube: Kube) -> list[str]:
    """What the operator has made and not taken back."""
    kinds = "rayservices,rayclusters,pods,services,jobs,serviceaccounts,roles,rolebindings"
    found = json.loads(kube.run("get", kinds, "--output=json"))["items"]
    names = [f"{item['kind']} {item['metadata']['name']}" for item in found]
    return [name for name in names if name != "ServiceAccount default"]
