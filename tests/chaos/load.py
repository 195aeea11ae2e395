"""A load of jobs, what each must yield, and the clients that submit them."""

import time
from pathlib import Path
from typing import Any

import httpx

JOBS = 60
PROMPTS = ("rain and wind", "a bell", "a drum loop 120 BPM", "thunder, a siren and a choir")
DURATIONS = (2.0, 20.0, 60.0)
FORMATS = ("wav", "flac", "mp3")
MODELS = ("small-sfx", "small-music")

PATIENCE_S = 240.0
POLL_S = 0.2


def body(index: int) -> dict[str, Any]:
    """The ``index``-th job of the load; Opus is left out, its files carry a random serial."""
    return {
        "prompt": PROMPTS[index % len(PROMPTS)],
        "duration": DURATIONS[index % len(DURATIONS)],
        "format": FORMATS[index // 3 % len(FORMATS)],
        "model": MODELS[index % len(MODELS)],
        "steps": 20,
        "seed": index,
    }


class Client:
    """Retries as any client would: a connection may break, an answer may be 5xx or 429."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=10)
        self._deadline = time.monotonic() + PATIENCE_S

    def submit(self, index: int, run: str) -> str:
        headers = {"Idempotency-Key": f"{run}-{index}"}
        answer = self._request("POST", "/jobs", json=body(index), headers=headers)
        job_id: str = answer["id"]
        return job_id

    def wait(self, job_id: str) -> dict[str, Any]:
        while (view := self._request("GET", f"/jobs/{job_id}"))["completed_at"] is None:
            assert time.monotonic() < self._deadline, f"stuck: {view}"
            time.sleep(POLL_S)
        return view

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        while True:
            try:
                response = self._http.request(method, path, **options)
                if response.status_code < 429:
                    response.raise_for_status()
                    answer: dict[str, Any] = response.json() if response.content else {}
                    return answer
            except httpx.TransportError:
                pass
            assert time.monotonic() < self._deadline, f"{method} {path} was never answered"
            time.sleep(POLL_S)


def assert_nothing_lost_or_doubled(
    views: list[dict[str, Any]], expected: dict[int, str], folder: Path
) -> None:
    """Every job has succeeded with the audio of a run without faults, in exactly one object."""
    assert [v["error"] for v in views if v["status"] != "succeeded"] == []
    assert {v["seed"]: v["sha256"] for v in views} == expected
    stored = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    assert stored == sorted(view["storage_key"] for view in views)
