"""``sa-ray check`` against a service that answers, but does not work."""

from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from sa_ray import audio
from sa_ray.cli.commands import app
from sa_ray.contracts import HealthStatus, JobAccepted, JobTimings, JobView, ModelList

JOB = "a" * 32
deleted: list[str] = []
SILENCE = audio.encode(np.zeros((2, 44_100), np.float32), 44_100, "wav", tags={})


class Service(BaseHTTPRequestHandler):
    """It is degraded, its clips are silent, and its jobs stay in the queue."""

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/health":
                self._answer(HealthStatus(status="degraded").model_dump_json())
            case "/v1/models":
                self._answer(ModelList(default="small-sfx", models=[]).model_dump_json())
            case _:
                self._answer(queued().model_dump_json())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/jobs":
            accepted = JobAccepted(id=JOB, status="queued", status_url="")
            self._answer(accepted.model_dump_json(), status=202)
        else:
            self._answer(SILENCE, {"X-Warning": "The clip with seed 1 is silent. Try another."})

    def do_DELETE(self) -> None:
        deleted.append(self.path)
        self._answer(queued().model_dump_json())

    def _answer(
        self, body: str | bytes, headers: dict[str, str] | None = None, status: int = 200
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


def queued() -> JobView:
    return JobView(
        id=JOB, status="queued", status_url="", model="small-sfx", prompt="a bell", duration=1,
        steps=8, cfg_scale=1, seed=1, created_at=datetime.now(UTC), started_at=None,
        completed_at=None, priority="normal", expires_at=None, queue_position=1, progress=0,
        attempts=0, cancel_requested=False, engine=None, sample_rate=None, audio_duration=None,
        size_bytes=None, sha256=None, download_url=None, storage_backend="local",
        storage_key=None, error=None, error_code=None, timings=JobTimings(),
    )  # fmt: skip


@pytest.fixture
def result() -> Iterator[Result]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"  # without its scheme
        yield CliRunner().invoke(app, ["check", address, "--timeout", "1"])
        server.shutdown()


def test_everything_is_tried_and_told_although_the_service_is_degraded(result: Result) -> None:
    lines = [line.split("\t") for line in result.stdout.splitlines()]

    assert result.exit_code == 1
    assert [(mark, name) for mark, name, _ in lines] == [
        ("FAILS", "health"), ("ok", "models"), ("FAILS", "clip"), ("FAILS", "job"),
    ]  # fmt: skip
    assert "degraded" in lines[0][2]
    assert "is silent" in lines[2][2]
    assert "still queued after 1 s" in lines[3][2]
    assert deleted == [f"/jobs/{JOB}"]
