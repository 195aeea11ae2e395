"""Clients of Pods that `kubelet.py` runs."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event

import httpx

from tests.manifests.kubelet import Kubelet, until

HEARD_OF_S = 2.0
"""How long those who send requests go on sending them to a Pod that is being deleted."""
CLIP = {"prompt": "a bell", "duration": 1}
CALLED = {"Host": "sa-ray-serve-svc"}


@dataclass
class Load:
    """Clients of the Service, each request by a connection of its own."""

    kubelet: Kubelet
    outcomes: Counter[str] = field(default_factory=Counter)
    jobs: list[str] = field(default_factory=list)
    over: Event = field(default_factory=Event)
    targets: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(8) as threads:
            clients = [threads.submit(self.generate, number) for number in range(3)]
            clients += [threads.submit(self.submit), threads.submit(self.watch)]
            try:
                yield threads
            finally:
                self.over.set()
            for client in clients:
                client.result()

    def watch(self) -> None:
        """Send where the Service sends to, but hear of a change late."""
        while not self.over.wait(HEARD_OF_S):
            # A probe may fail once, by the manifests, before its Pod is left out.
            self.targets = self.kubelet.endpoints() or self.kubelet.endpoints()

    def generate(self, client: int) -> None:
        number = client
        while not self.over.is_set():
            number += 1
            answer = self.post("v1/audio/generations", number)
            self.outcomes[outcome(answer)] += 1

    def submit(self) -> None:
        number = 0
        while not self.over.wait(1):
            number += 1
            answer = self.post("jobs", number)
            self.outcomes[f"job {outcome(answer)}"] += 1
            if isinstance(answer, httpx.Response) and answer.status_code == 202:
                self.jobs.append(answer.json()["id"])

    def post(self, path: str, number: int) -> httpx.Response | httpx.TransportError:
        targets = self.targets
        url = f"http://{targets[number % len(targets)]}/{path}"
        try:
            return httpx.post(url, json=CLIP, headers=CALLED, timeout=60)
        except httpx.TransportError as error:
            return error

    def ended(self) -> Counter[str]:
        """How the jobs ended, once they have."""
        url = f"http://{self.kubelet.endpoints()[0]}/jobs"
        return Counter(until(partial(job_end, f"{url}/{job}")) for job in self.jobs)


def keep_connection(url: str, over: Event) -> list[tuple[int, str | None]]:
    """Status and `Connection` of all answers on one connection, until one says that it ends."""
    answers: list[tuple[int, str | None]] = []
    with httpx.Client(base_url=url, headers=CALLED, timeout=60) as client:
        while not over.wait(0.5):
            answer = client.get("v1/models")
            answers.append((answer.status_code, answer.headers.get("connection")))
            if answers[-1][1]:
                break
    return answers


def job_end(url: str) -> str | None:
    try:
        view = httpx.get(url, headers=CALLED, timeout=30).raise_for_status().json()
    except httpx.HTTPError:
        return None
    return view["status"] if view["status"] in ("succeeded", "failed", "cancelled") else None


def outcome(answer: httpx.Response | httpx.TransportError) -> str:
    return str(answer.status_code) if isinstance(answer, httpx.Response) else repr(answer)
