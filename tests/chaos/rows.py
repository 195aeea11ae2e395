"""What must hold of a load after faults, and the table of what was seen."""

import hashlib
import io
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import soundfile

from sa_ray.storage import ObjectStore, open_object_store
from tests.support.object_stores import delete, keys
from tests.support.secret_settings import settings_of
from tests.support.service import Service

from .load import JOBS, Client, JobLoad, Outcome, View

HEADER = (
    "| Victim | Times | Jobs | Lost | Duplicated | Attempted again | Slowest recovery, s "
    "| Whole load, s |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)
TIDY_TIMEOUT_S = 30.0
"""How long after the last job's end the objects of cancelled ones may still be there."""


@dataclass
class Books:
    """Of the whole run: the rows of the table, and what each job yields without faults."""

    rows: list[str] = field(default_factory=list)
    expected: dict[int, str] = field(default_factory=dict)
    """SHA-256 by seed."""


class BookedService(Service):
    """The deployed application with its object store, and the books that are kept of it."""

    def __init__(self, base_url: str, settings: dict[str, Any], books: Books) -> None:
        super().__init__(base_url, settings)
        self.books = books
        self._storage = settings_of(settings).storage
        self._objects: ObjectStore = open_object_store(self._storage)

    def keys(self) -> set[str]:
        return set(keys(self._storage))

    def content(self, key: str) -> bytes:
        return b"".join(self._objects.read(key))

    def delete(self, key: str) -> None:
        delete(self._objects, key)

    def learn(self) -> None:
        """Run the load without faults, once in a test run, and keep what each job yields."""
        if self.books.expected:
            return
        row = Row(self, "nobody", cancelling=False)
        outcomes = row.finish()
        for outcome in outcomes:
            assert outcome.view is not None
            data = self.content(outcome.view["storage_key"])
            if outcome.view["format"] != "mp3":  # which pads
                audio = soundfile.info(io.BytesIO(data))
                assert audio.frames == round(outcome.view["duration"] * audio.samplerate)
            self.books.expected[outcome.index] = hashlib.sha256(data).hexdigest()
        row.tidy()


class Row:
    """One load, the faults during it, and the line of the table that comes of it."""

    def __init__(self, service: BookedService, victim: str, *, cancelling: bool = True) -> None:
        self._service = service
        self._victim = victim
        self._chance = random.Random(victim)
        self._before = service.keys()
        self._listed_before = self._listed()
        self._faults_over: list[float] = []
        self._started = time.time()
        self._load = JobLoad(service.base_url, f"{victim}-{self._started}", cancelling=cancelling)

    def moments(self, times: int) -> Iterator[random.Random]:
        """That many random moments, spread over the load. The fault is over when the next one is
        asked for, or as ``fault_is_over`` says."""
        for number in range(times):
            share = (number + self._chance.uniform(0.2, 0.8)) / (times + 0.5)
            self._load.wait_until_ended(round(share * JOBS))
            time.sleep(self._chance.uniform(0, 0.3))
            yield self._chance
            if len(self._faults_over) == number:
                self.fault_is_over()

    def fault_is_over(self) -> None:
        self._faults_over.append(time.time())

    def finish(self) -> list[Outcome]:
        """Wait for the load and check it: every job has ended as its client wants it, its audio
        is that of the load without faults in exactly one object, and nothing else is left."""
        outcomes = self._load.result()
        seconds = time.time() - self._started
        views = [outcome.view for outcome in outcomes if outcome.view]
        wanted = {
            outcome.view["storage_key"]
            for outcome in outcomes
            if outcome.view and outcome.succeeded
        }
        _wait_until(lambda: self._new_keys() == wanted)
        listed = self._listed() - self._listed_before
        extra_objects = self._new_keys() - wanted
        extra_jobs = listed - {outcome.job_id for outcome in outcomes}
        lost = [outcome for outcome in outcomes if outcome.lost]
        self._service.books.rows.append(
            f"| {self._victim} | {len(self._faults_over)} | {JOBS} | {len(lost)} "
            f"| {len(extra_objects) + len(extra_jobs)} "
            f"| {sum(view['attempts'] > 1 for view in views)} "
            f"| {self._slowest_recovery(views):.1f} | {seconds:.0f} |"
        )
        print(f"\n{self._service.books.rows[-1]}", flush=True)
        assert not lost, [(one.view or {}).get("error") for one in lost]
        assert not extra_objects, self._of_objects(extra_objects, outcomes)
        assert not extra_jobs, extra_jobs
        assert self._new_keys() == wanted
        assert listed == {view["id"] for view in views}
        assert len(outcomes) == JOBS
        # What a test cancels itself, of jobs that a worker holds, ends with its next heartbeat.
        _wait_until(lambda: not self._unended())
        assert not self._unended()
        self._check_audio(outcomes)
        return outcomes

    def _unended(self) -> list[View]:
        client = Client(self._service.base_url)
        return [*client.jobs(status="queued"), *client.jobs(status="running")]

    def tidy(self) -> None:
        """Free the disk; the job records stay."""
        for key in self._new_keys():
            self._service.delete(key)

    def _check_audio(self, outcomes: list[Outcome]) -> None:
        expected = self._service.books.expected
        for outcome in outcomes:
            if not outcome.view or not outcome.succeeded:
                continue
            data = self._service.content(outcome.view["storage_key"])
            assert len(data) == outcome.view["size_bytes"]
            digest = hashlib.sha256(data).hexdigest()
            assert digest == outcome.view["sha256"]
            assert not expected or digest == expected[outcome.index]

    def _new_keys(self) -> set[str]:
        return self._service.keys() - self._before

    def _of_objects(self, keys: set[str], outcomes: list[Outcome]) -> list[tuple[str, list[Any]]]:
        """Each key, and what became of the job that it is named after."""
        return [(key, [one for one in outcomes if one.job_id in key]) for key in sorted(keys)]

    def _listed(self) -> set[str]:
        return {view["id"] for view in Client(self._service.base_url).jobs()}

    def _slowest_recovery(self, views: list[View]) -> float:
        """The longest from the end of a fault to the end of the last of the jobs that had been
        accepted by then and had not ended; without a fault, the longest a job took."""
        ages = [(_unix(view["created_at"]), _unix(view["completed_at"])) for view in views]
        if not self._faults_over:
            return max(end - start for start, end in ages)
        waits = [
            end - over for over in self._faults_over for start, end in ages if start <= over < end
        ]
        return max(waits, default=0.0)


def attempts(outcomes: list[Outcome]) -> set[int]:
    """How many attempts the jobs took that succeeded."""
    return {one.view["attempts"] for one in outcomes if one.view and one.succeeded}


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _wait_until(condition: Callable[[], bool]) -> None:
    """Return when it holds, or after a while all the same: the caller checks and reports."""
    deadline = time.monotonic() + TIDY_TIMEOUT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
