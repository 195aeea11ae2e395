"""Load from within the cluster: runs in a Pod, with nothing but httpx beside it.

    python client.py URL SYNC_PER_S JOBS_PER_S MODEL

Until `/tmp/stop` exists; then it waits for all jobs that were accepted, reads their audio, and
prints what became of everything as one JSON line.
"""

import collections
import collections.abc
import itertools
import json
import os
import pathlib
import sys
import threading
import time

import httpx

STOP = pathlib.Path("/tmp/stop")  # noqa: S108
JOBS_TIMEOUT_S = 400.0
Json = dict[str, object]
Call = collections.abc.Callable[[httpx.Client], None]
ENDED = ("succeeded", "failed", "cancelled")


class Load:
    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.model = model
        self.answers: collections.Counter[str] = collections.Counter()
        self.failures: list[dict[str, object]] = []
        self.jobs: dict[str, str] = {}
        self.unsure: list[str] = []
        self.answered: list[tuple[float, float]] = []
        self.lock = threading.Lock()

    def every(self, period_s: float, call: Call, threads: int) -> None:
        """``threads`` that share the rate; half of them keep their connections."""
        for number in range(threads):
            keep = number % 2 == 0
            args = (period_s * threads, call, keep, number * period_s)
            threading.Thread(target=self._loop, args=args, daemon=True).start()

    def _loop(self, period_s: float, call: Call, keep: bool, after_s: float) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keep else 0)
        client = httpx.Client(base_url=self.url, timeout=60, limits=limits)
        time.sleep(after_s)
        due = time.monotonic()
        while not STOP.exists():
            call(client)
            due = max(due + period_s, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def sync(self, client: httpx.Client) -> None:
        body = {"prompt": "rain", "duration": 1, "model": self.model}
        self._ask(client, "sync", "/v1/audio/generations", body, {})

    def job(self, client: httpx.Client) -> None:
        key = os.urandom(8).hex()
        body = {"prompt": f"a bell {key}", "duration": 1, "model": self.model}
        answer = self._ask(client, "job", "/jobs", body, {"Idempotency-Key": key})
        with self.lock:
            if answer is not None and answer.status_code == 202:
                self.jobs[key] = answer.json()["id"]
            elif answer is None:
                self.unsure.append(key)

    def _ask(
        self, client: httpx.Client, kind: str, path: str, body: Json, headers: dict[str, str]
    ) -> httpx.Response | None:
        begun = time.time()
        answer: httpx.Response | None = None
        try:
            answer = client.post(path, json=body, headers=headers)
            what = str(answer.status_code)
        except httpx.HTTPError as error:
            what = type(error).__name__
        took = time.time() - begun
        with self.lock:
            self.answers[f"{kind} {what}"] += 1
            if answer is not None and answer.is_success:
                self.answered.append((begun, took))
            else:
                text = "" if answer is None else answer.text[:200]
                failure = {"at": begun, "took": round(took, 2), "kind": kind, "what": what}
                self.failures.append(failure | {"text": text})
        return answer

    def outcome(self) -> dict[str, object]:
        ends: dict[str, dict[str, object]] = {}
        deadline = time.monotonic() + JOBS_TIMEOUT_S
        with httpx.Client(base_url=self.url, timeout=60, follow_redirects=True) as client:
            while time.monotonic() < deadline and len(ends) < len(self.jobs):
                for job in set(self.jobs.values()) - set(ends):
                    try:
                        view = client.get(f"/jobs/{job}").raise_for_status().json()
                    except httpx.HTTPError:
                        continue
                    if view["status"] in ENDED:
                        ends[job] = {name: view.get(name) for name in ("status", "attempts")}
                time.sleep(1)
            heard = sum(self._heard(client, job) for job in ends)
        waits = sorted(took for _, took in self.answered)
        return {
            "answers": dict(self.answers),
            "failures": self.failures[:40],
            "jobs": len(self.jobs),
            "ends": dict(collections.Counter(str(end["status"]) for end in ends.values())),
            "attempts": dict(collections.Counter(str(end["attempts"]) for end in ends.values())),
            "heard": heard,
            "ids": sorted(self.jobs.values()),
            "longest wait": round(waits[-1], 2) if waits else None,
            "longest silence": round(self._silence(), 2),
        }

    def _heard(self, client: httpx.Client, job: str) -> int:
        try:
            audio = client.get(f"/jobs/{job}/audio")
        except httpx.HTTPError:
            return 0
        return audio.is_success and audio.content[:4] == b"RIFF"

    def _silence(self) -> float:
        """The longest time without an answer that was a success."""
        ends = sorted(begun + took for begun, took in self.answered)
        return max((after - before for before, after in itertools.pairwise(ends)), default=0)


def main() -> None:
    url, sync_per_s, jobs_per_s, model = sys.argv[1:]
    load = Load(url, model)
    if float(sync_per_s):
        load.every(1 / float(sync_per_s), load.sync, 6)
    if float(jobs_per_s):
        load.every(1 / float(jobs_per_s), load.job, 2)
    while not STOP.exists():
        time.sleep(0.5)
    time.sleep(2)
    print(json.dumps(load.outcome()), flush=True)


if __name__ == "__main__":
    main()
