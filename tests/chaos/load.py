"""A load of jobs, what each must yield, and the clients that submit them."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

JOBS = 60
CLIENTS = 16
PROMPTS = ("rain and wind", "a bell", "a drum loop 120 BPM", "thunder, a siren and a choir")
DURATIONS = (2.0, 20.0, 60.0)
FORMATS = ("wav", "flac", "mp3")
MODELS = ("small-sfx", "small-music")

PATIENCE_S = 240.0
POLL_S = 0.2

Views = list[dict[str, Any]]


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

    def delete(self, job_id: str) -> None:
        self._request("DELETE", f"/jobs/{job_id}")

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


class Chaos:
    """A deployed application under load."""

    def __init__(self, base_url: str, outputs: Path, rows: list[str]) -> None:
        self._base_url = base_url
        self._outputs = outputs
        self._rows = rows
        self._pool = ThreadPoolExecutor(1)
        self._expected: dict[int, str] = {}
        self._started = 0.0

    def run_calmly(self) -> None:
        """Learn what each job yields when nothing fails."""
        views = self._run("calm")
        assert [view["status"] for view in views] == ["succeeded"] * JOBS
        self._expected = {view["seed"]: view["sha256"] for view in views}
        self._forget(views)
        assert self._stored() == []

    def start(self, run: str) -> "Future[Views]":
        self._started = time.monotonic()
        return self._pool.submit(self._run, run)

    def finish(self, victim: str, times: int, load: "Future[Views]") -> Views:
        """Wait for the load, note a row, and fail if a job was lost, done twice, or done wrong:
        every one has succeeded with the audio of the calm run, in exactly one object."""
        views = load.result()
        self._rows.append(
            f"| {victim} | {times} | {JOBS} | {sum(v['status'] != 'succeeded' for v in views)} | "
            f"{len(self._stored()) - len({v['storage_key'] for v in views})} | "
            f"{sum(v['attempts'] > 1 for v in views)} | {time.monotonic() - self._started:.0f} |"
        )
        assert [v["error"] for v in views if v["status"] != "succeeded"] == []
        assert {v["seed"]: v["sha256"] for v in views} == self._expected
        assert self._stored() == sorted(view["storage_key"] for view in views)
        self._forget(views)
        return views

    def _run(self, run: str) -> Views:
        with ThreadPoolExecutor(CLIENTS) as pool:
            ids = list(
                pool.map(lambda index: Client(self._base_url).submit(index, run), range(JOBS))
            )
            return list(pool.map(lambda job_id: Client(self._base_url).wait(job_id), ids))

    def _forget(self, views: Views) -> None:
        for view in views:
            Client(self._base_url).delete(view["id"])

    def _stored(self) -> list[str]:
        return sorted(p.name for p in self._outputs.iterdir() if not p.name.startswith("."))
