"""A running service, as its clients see it."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from sa_ray.contracts import Health

DEADLINE_S = 90.0
POLL_S = 0.05

SLOW = {
    "model": "medium",
    "prompt": "muffled thunder, rain, wind, a siren, a choir and a drum loop",
    "duration": 300,
    "steps": 50,
}
"""Seconds of work for the procedural engine: long enough to be caught at it."""


def local_settings(folder: Path) -> dict[str, Any]:
    """The procedural engine, with jobs in a SQLite file and audio in a folder of ``folder``."""
    return {
        "jobs_url": f"sqlite:///{folder}/jobs.db",
        "output_dir": f"{folder}/outputs",
        "engine": "procedural",
    }


class Service:
    """The public surface of a deployed application: HTTP, and the folder it writes to."""

    def __init__(self, base_url: str, settings: dict[str, Any], *, timeout_s: float = 120) -> None:
        self.base_url = base_url
        self.settings = settings
        self.http = httpx.Client(base_url=base_url, timeout=timeout_s)

    @property
    def outputs(self) -> Path:
        return Path(self.settings["output_dir"])

    def generate(self, **body: Any) -> httpx.Response:
        return self.http.post("/v1/audio/generations", json={"prompt": "rain", **body})

    def submit(self, **body: Any) -> str:
        response = self.http.post("/jobs", json={"prompt": "rain", "duration": 0.5, **body})
        assert response.status_code == 202, response.text
        job_id: str = response.json()["id"]
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        response = self.http.get(f"/jobs/{job_id}")
        assert response.status_code == 200, response.text
        view: dict[str, Any] = response.json()
        return view

    def wait_for(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """Poll until the job has one of ``statuses``; fail at once if it ended otherwise."""
        wanted = statuses or ("succeeded", "failed", "cancelled")
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            view = self.job(job_id)
            if view["status"] in wanted:
                return view
            assert view["completed_at"] is None, view
            time.sleep(POLL_S)
        raise AssertionError(f"job {job_id} did not become {wanted}: {self.job(job_id)}")

    def until(self, condition: Callable[[], bool]) -> None:
        """Poll until ``condition`` holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(POLL_S)

    def health(self) -> Health:
        return Health.model_validate(self.http.get("/health").raise_for_status().json())

    def wait_until_started(self) -> None:
        """Without a key the service says no more of its health than the status."""
        deadline = time.monotonic() + DEADLINE_S
        said = ""
        while time.monotonic() < deadline:
            with suppress(httpx.ConnectError):  # HAProxy may not have been told yet what there is
                response = self.http.get("/health")
                if response.status_code == 200 and response.json()["status"] != "starting":
                    return
                said = response.text
            time.sleep(POLL_S)
        raise AssertionError(f"the service did not start: {said}")


def server_timing(answer: httpx.Response) -> dict[str, float]:
    """Return the milliseconds that ``Server-Timing`` tells, by their names."""
    spans = re.findall(r"(\w+);dur=(\d+\.\d)", answer.headers["server-timing"])
    return {name: float(milliseconds) for name, milliseconds in spans}
