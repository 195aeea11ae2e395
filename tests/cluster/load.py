"""A steady load on a service, and what became of every request and job of it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.service import DEADLINE_S, POLL_S, Service

PAUSE_S = 0.1
SYNC = {"prompt": "rain", "duration": 2, "steps": 8}
JOB = {"prompt": "a bell", "duration": 5, "steps": 8}


@dataclass(frozen=True)
class Answer:
    at: float
    seconds: float
    outcome: str
    """The status, or the exception if there was none."""
    text: str


class Clients:
    """Threads of ``targets``, which ask a service again and again until ``_stop`` is set."""

    def __init__(self, targets: Iterable[Callable[[], object]]) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=target) for target in targets]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class SteadyLoad(Clients):
    """Clients that ask one request after another, as a client without retries would: two wait for
    audio, one submits jobs. On exit they stop, and every job has reached its end."""

    def __init__(
        self,
        service: Service,
        models: Iterable[str] = ("small-sfx",),
        *,
        connect: Callable[[], httpx.Client] | None = None,
    ) -> None:
        """``connect`` makes the HTTP client of each of them."""
        self._service = service
        self._connect = connect or (lambda: httpx.Client(base_url=service.base_url))
        self._models = tuple(models)
        waiting = (partial(self._wait_for_audio, number) for number in range(2))
        super().__init__([*waiting, self._submit_jobs])
        self.answers: list[Answer] = []
        self.submissions: list[Answer] = []
        self.jobs: list[dict[str, Any]] = []
        self._job_ids: list[str] = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self.jobs = [self._service.wait_for(job_id) for job_id in self._job_ids]

    def wait_for_answers(self, count: int = 10) -> None:
        """Until so many more requests were answered with audio."""
        goal = self._served() + count
        deadline = time.monotonic() + DEADLINE_S
        while self._served() < goal:
            assert time.monotonic() < deadline, self.answers[-5:]
            time.sleep(POLL_S)

    def serves_again(self) -> Callable[[], bool]:
        """Whether a request that begins from now on was answered with audio."""
        now = time.monotonic()
        return lambda: any(a.at > now and a.outcome == "200" for a in self.answers)

    @property
    def failures(self) -> list[Answer]:
        """Every request and submission that did not get what it asked for."""
        return [a for a in (*self.answers, *self.submissions) if a.outcome not in ("200", "202")]

    @property
    def longest_wait(self) -> float:
        """Seconds of the slowest request."""
        return max(answer.seconds for answer in self.answers)

    def row(self, scenario: str, recovery: str) -> str:
        ended = Counter(job["status"] for job in self.jobs)
        lost_jobs = len(self.jobs) - ended["succeeded"]
        again = sum(job["attempts"] > 1 for job in self.jobs)
        return (
            f"| {scenario} | {recovery} | {len(self.answers) + len(self.submissions)} | "
            f"{len(self.failures)} | {self.longest_wait:.1f} | {len(self.jobs)} | {lost_jobs} | "
            f"{again} |"
        )

    def assert_nothing_lost(self) -> None:
        """Every request was answered with audio, and every job has yielded an object."""
        assert not self.failures, self.failures[:5]
        assert [job for job in self.jobs if job["status"] != "succeeded"] == []
        stored = {path.name for path in self._service.outputs.iterdir()}
        assert {job["storage_key"] for job in self.jobs} <= stored

    def _served(self) -> int:
        return sum(answer.outcome == "200" for answer in self.answers)

    def _wait_for_audio(self, first: int) -> None:
        turn = first
        with closing(self._connect()) as http:
            while not self._stop.wait(PAUSE_S):
                model = self._models[turn % len(self._models)]
                body = {**SYNC, "model": model, "seed": turn}
                answer, _ = _post(http, "/v1/audio/generations", body)
                self.answers.append(answer)
                turn += 1

    def _submit_jobs(self) -> None:
        turn = 0
        with closing(self._connect()) as http:
            while not self._stop.wait(2 * PAUSE_S):
                model = self._models[turn % len(self._models)]
                answer, response = _post(http, "/jobs", {**JOB, "model": model, "seed": turn})
                self.submissions.append(answer)
                if response is not None and response.status_code == 202:
                    self._job_ids.append(response.json()["id"])
                turn += 1


def _post(
    http: httpx.Client, path: str, body: dict[str, Any]
) -> tuple[Answer, httpx.Response | None]:
    started = time.monotonic()
    try:
        response = http.post(path, json=body, timeout=DEADLINE_S)
    except httpx.TransportError as error:
        return Answer(started, time.monotonic() - started, repr(error), ""), None
    seconds = time.monotonic() - started
    text = "" if response.is_success else response.text
    return Answer(started, seconds, str(response.status_code), text), response
