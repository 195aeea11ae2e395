"""Jobs through everything that an operator does to a service with Ray's own command line."""

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sa_ray.local import free_port
from tests.support.commands import BIN, MARK, marked, run
from tests.support.service import Service, local_settings

START_S = 90.0
JOBS_S = 120.0
POLL_S = 0.1

LONG = {"prompt": "thunder, rain, wind, a siren and a choir", "duration": 120, "steps": 50}
SHORT = {"prompt": "a bell", "duration": 0.5}

ENVIRONMENT = {"RAY_AUTH_MODE": "disabled"}


@dataclass
class Cluster:
    """A Ray cluster that outlives the services on it."""

    folder: Path
    mark: str
    port: int
    dashboard: str

    def serve(self, *arguments: str) -> str:
        result = run(
            "serve", *arguments, "--address", self.dashboard, cwd=self.folder, **ENVIRONMENT
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    @contextmanager
    def serve_run(self, config: Path) -> Iterator[None]:
        """`serve run`, ended as by Ctrl-C."""
        log = self.folder / "serve-run.log"
        command = [str(BIN / "serve"), "run", str(config), "--address", f"127.0.0.1:{self.port}"]
        with log.open("ab") as output, subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=output,
            stderr=output,
            env={**os.environ, **ENVIRONMENT, MARK: self.mark},
        ) as process:  # fmt: skip
            try:
                yield
                assert process.poll() is None, log.read_text()
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(60)


@pytest.fixture
def cluster(tmp_path: Path, mark: str) -> Iterator[Cluster]:
    port, dashboard = free_port(), free_port()
    ports = {
        "port": port,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(),
    }
    log = tmp_path / "cluster.log"
    with log.open("wb") as output, subprocess.Popen(
        [
            *(str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=4"),
            *("--disable-usage-stats", "--include-dashboard=true"),
            *(f"--{name}={value}" for name, value in ports.items()),
        ],
        cwd=tmp_path,
        stdout=output,
        stderr=output,
        env={**os.environ, **ENVIRONMENT, MARK: mark},
    ):  # fmt: skip
        try:
            address = f"http://127.0.0.1:{dashboard}"
            until(lambda: answers(f"{address}/api/version"), START_S, log)
            yield Cluster(tmp_path, mark, port, address)
        finally:
            for pid in marked(mark):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def until(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(POLL_S)


class RestartedService(Service):
    """The service on ``cluster``, over HTTP, and all the jobs that it was ever given."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.port = free_port()
        two_at_a_time = {"small-sfx": {"max_replicas": 1, "max_batch_rows": 1}}
        settings = {**local_settings(cluster.folder), "variants": two_at_a_time}
        super().__init__(f"http://127.0.0.1:{self.port}", settings, timeout_s=30)
        self.accepted: list[str] = []

    def config(self, **args: object) -> Path:
        """``serve_config.yaml`` with the settings, changed by ``args``."""
        path = self.cluster.folder / "serve_config.yaml"
        application = {"name": "sa-ray", "route_prefix": "/", "import_path": "sa_ray.app:build"}
        document = {
            "http_options": {"host": "127.0.0.1", "port": self.port},
            "applications": [{**application, "args": {**self.settings, **args}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def get(self, path: str, timeout_s: float = 30) -> Any:
        return self.http.get(path, timeout=timeout_s).json()

    def wait_until_ready(self, max_steps: int) -> None:
        def ready() -> bool:
            try:
                health = self.get("/health")
            except (httpx.TransportError, ValueError):
                return False
            return health.get("status") == "ok" and health["max_steps"] == max_steps

        until(ready, START_S, self.cluster.folder / "serve-run.log")

    def wait_until_gone(self) -> None:
        def gone() -> bool:
            return yaml.safe_load(self.cluster.serve("status"))["applications"] == {}

        until(gone, START_S, self.cluster.folder / "serve-run.log")

    def submit(self, **body: Any) -> str:
        job_id = super().submit(**body, seed=len(self.accepted))
        self.accepted.append(job_id)
        return job_id

    def submit_of_every_kind(self) -> list[str]:
        """One job that succeeds, and enough that one is running and one waits; the statuses then,
        as ``statuses`` has them."""
        short = self.submit(**SHORT)
        assert self.get(f"/jobs/{short}?wait=60", timeout_s=90)["status"] == "succeeded"
        for _ in range(3):
            self.submit(**LONG)
        seen: list[str] = []

        def every_kind() -> bool:
            seen[:] = self.statuses()
            return {"succeeded", "running", "queued"} <= set(seen)

        until(every_kind, JOBS_S, self.cluster.folder / "serve-run.log")
        return seen

    def statuses(self) -> list[str]:
        """Of all jobs, oldest first; fails if one is missing or was never submitted."""
        jobs = self.get("/jobs?limit=200")["jobs"]
        assert [job["id"] for job in reversed(jobs)] == self.accepted
        return [job["status"] for job in reversed(jobs)]


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_every_job_outlives_stops_starts_and_deploys(cluster: Cluster) -> None:
    service = RestartedService(cluster)

    with cluster.serve_run(service.config()):
        service.wait_until_ready(max_steps=50)
        before = service.submit_of_every_kind()

    with cluster.serve_run(service.config()):
        service.wait_until_ready(max_steps=50)
        assert_nothing_went_back(before, service.statuses())
        service.submit_of_every_kind()

        cluster.serve("deploy", str(service.config(max_steps=60)))
        service.wait_until_ready(max_steps=60)
        before = service.submit_of_every_kind()

        cluster.serve("shutdown", "-y")
        service.wait_until_gone()

    cluster.serve("deploy", str(service.config(max_steps=60)))
    service.wait_until_ready(max_steps=60)
    assert_nothing_went_back(before, service.statuses())

    for job_id in service.accepted:
        job = service.get(f"/jobs/{job_id}?wait=120", timeout_s=150)
        assert job["status"] == "succeeded", job
        assert sha256(service.outputs / job["storage_key"]) == job["sha256"]

    stored = [path for path in service.outputs.iterdir() if not path.name.startswith(".")]
    assert len(stored) == len(service.accepted)


def assert_nothing_went_back(before: list[str], after: list[str]) -> None:
    for old, new in zip(before, after, strict=True):
        assert new in ("queued", "running", "succeeded")
        assert old != "succeeded" or new == "succeeded"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
