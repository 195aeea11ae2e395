"""A load of jobs, and the clients that submit them, wait for them and put up with faults."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

JOBS = 200
CLIENTS = 8
WINDOW = 5
"""Jobs that a client has under way at once."""

PROMPTS = ("rain and wind", "a bell", "a drum loop 120 BPM", "thunder, a siren and a choir")
DURATIONS = (0.5, 1.0, 3.0)
FORMATS = ("wav", "flac", "mp3")
MODELS = ("small-sfx", "small-music")
PRIORITIES = ("normal", "normal", "high", "low", "normal")
CANCELLED = frozenset(range(7, JOBS, 20))
"""Jobs whose client thinks better of it."""

PATIENCE_S = 240.0
LONG_POLL_S = 5
RETRY_S = 0.2

View = dict[str, Any]


def body(index: int) -> dict[str, Any]:
    """The ``index``-th job of the load; Opus is left out, its files carry a random serial."""
    return {
        "prompt": PROMPTS[index % len(PROMPTS)],
        "duration": DURATIONS[index % len(DURATIONS)],
        "format": FORMATS[index // 3 % len(FORMATS)],
        "model": MODELS[index % len(MODELS)],
        "priority": PRIORITIES[index % len(PRIORITIES)],
        "steps": 8,
        "seed": index,
    }


@dataclass(frozen=True)
class Outcome:
    """``view``: the job at its end; None if its client's cancellation came late and deleted it."""

    index: int
    job_id: str
    view: View | None

    @property
    def succeeded(self) -> bool:
        return self.view is not None and self.view["status"] == "succeeded"

    @property
    def lost(self) -> bool:
        """Neither succeeded nor cancelled by its client."""
        gone = self.view is None or self.view["status"] == "cancelled"
        return not self.succeeded and not (gone and self.index in CANCELLED)


class Client:
    """Retries as any client would: a connection may break, an answer may be 5xx or 429."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=2 * LONG_POLL_S)
        self._deadline = time.monotonic() + PATIENCE_S

    def submit(self, index: int, run: str) -> str:
        headers = {"Idempotency-Key": f"{run}-{index}"}
        response = self._request("POST", "/jobs", json=body(index), headers=headers)
        job_id: str = response.json()["id"]
        return job_id

    def cancel(self, job_id: str) -> None:
        self._request("DELETE", f"/jobs/{job_id}")

    def wait(self, job_id: str) -> View | None:
        """The job at its end; None if there is no such job."""
        while True:
            response = self._request("GET", f"/jobs/{job_id}?wait={LONG_POLL_S}")
            if response.status_code == httpx.codes.NOT_FOUND:
                return None
            view: View = response.json()
            if view["completed_at"]:
                return view
            assert time.monotonic() < self._deadline, f"stuck: {view}"

    def jobs(self, **query: str) -> Iterator[View]:
        """The jobs of the service, newest first."""
        while True:
            page = self._request("GET", "/jobs", params={"limit": "200", **query}).json()
            yield from page["jobs"]
            if not page["next_cursor"]:
                return
            query["cursor"] = page["next_cursor"]

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        while True:
            answer = "no answer"
            try:
                response = self._http.request(method, path, **options)
                answer = f"{response.status_code} {response.text}"
                if response.is_success or _is_missing(response):
                    return response
                known = response.status_code < httpx.codes.TOO_MANY_REQUESTS
                assert not known or _is_before_the_application(response), answer
            except httpx.TransportError as error:
                answer = repr(error)
            assert time.monotonic() < self._deadline, f"{method} {path}: {answer}"
            time.sleep(RETRY_S)


def _is_before_the_application(response: httpx.Response) -> bool:
    """Whether it is Serve's HTTP proxy that answers, to which nothing is deployed yet."""
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return response.status_code == httpx.codes.NOT_FOUND and not is_json


def _is_missing(response: httpx.Response) -> bool:
    is_404 = response.status_code == httpx.codes.NOT_FOUND
    return is_404 and not _is_before_the_application(response)


class JobLoad:
    """``JOBS`` jobs from ``CLIENTS`` clients, started at once. ``run`` names it."""

    def __init__(self, base_url: str, run: str, *, cancelling: bool) -> None:
        self._base_url = base_url
        self._run = run
        self._cancelled = CANCELLED if cancelling else frozenset()
        self._ended = 0
        self._progress = threading.Condition()
        pool = ThreadPoolExecutor(CLIENTS)
        self._clients = [pool.submit(self._work, first) for first in range(CLIENTS)]
        pool.shutdown(wait=False)

    def wait_until_ended(self, count: int) -> None:
        """Return once that many jobs have ended."""
        with self._progress:
            assert self._progress.wait_for(lambda: self._ended >= count, PATIENCE_S)

    def result(self) -> list[Outcome]:
        return [outcome for client in self._clients for outcome in client.result()]

    def _work(self, first: int) -> list[Outcome]:
        client = Client(self._base_url)
        under_way: list[tuple[int, str]] = []
        outcomes: list[Outcome] = []
        try:
            for index in range(first, JOBS, CLIENTS):
                if len(under_way) == WINDOW:
                    outcomes.append(self._settle(client, *under_way.pop(0)))
                under_way.append((index, client.submit(index, self._run)))
                if index in self._cancelled:
                    client.cancel(under_way[-1][1])
            return outcomes + [self._settle(client, *one) for one in under_way]
        except BaseException:
            with self._progress:
                self._ended = JOBS  # nobody need wait: result() raises what happened
                self._progress.notify_all()
            raise

    def _settle(self, client: Client, index: int, job_id: str) -> Outcome:
        outcome = Outcome(index, job_id, client.wait(job_id))
        with self._progress:
            self._ended += 1
            self._progress.notify_all()
        return outcome
