"""``sa-ray check`` against a running service, and against what is none."""

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sa_ray.local import free_port
from tests.support.commands import run_here
from tests.support.service import Service


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[str]:
    """Another server: it answers each path with 404, and ``/health`` with a page."""
    (tmp_path / "health").write_text("<html></html>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_service_that_works_passes_and_keeps_nothing_of_it(
    service: Service, tmp_path: Path
) -> None:
    before = jobs(service)

    result = run_here("check", service.base_url, cwd=tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines] == [
        ["ok", "health"], ["ok", "models"], ["ok", "clip"], ["ok", "job"],
    ]  # fmt: skip
    assert "1 s of wav at 44100 Hz" in lines[2][2]
    assert jobs(service) == before


def test_findings_are_json_for_a_program(service: Service, tmp_path: Path) -> None:
    result = run_here("check", service.base_url, "--json", cwd=tmp_path)

    told = json.loads(result.stdout)
    assert told["url"] == service.base_url
    assert [(one["name"], one["ok"]) for one in told["checks"]] == [
        ("health", True), ("models", True), ("clip", True), ("job", True),
    ]  # fmt: skip


def test_a_model_that_does_not_exist_is_told_with_those_that_do(
    service: Service, tmp_path: Path
) -> None:
    result = run_here("check", service.base_url, "--model", "large", cwd=tmp_path)

    assert result.returncode == 1
    assert "FAILS\tclip\t422 invalid_request" in result.stdout
    assert "small-music" in result.stdout


def test_what_does_not_answer_and_what_is_something_else_is_told(
    stranger: str, tmp_path: Path
) -> None:
    silent = run_here("check", f"http://127.0.0.1:{free_port()}", cwd=tmp_path)
    other = run_here("check", stranger, cwd=tmp_path)

    for result, hint in ((silent, "Is it running"), (other, "not this service")):
        assert result.returncode == 1
        assert result.stdout.startswith("FAILS\thealth\t")
        assert hint in result.stdout
        assert "Traceback" not in result.stderr


def jobs(service: Service) -> list[Any]:
    return [one["id"] for one in service.http.get("/jobs").json()["jobs"]]
