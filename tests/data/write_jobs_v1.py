"""Writes ``jobs_v1.sql``: run with the release whose schema version is 1, never with a later one.

``python tests/data/write_jobs_v1.py > tests/data/jobs_v1.sql``
"""

import sqlite3
import sys
import tempfile
from pathlib import Path

from sa_ray.contracts import AudioInfo, JobError, JobResult, ResolvedRequest, StoredObject
from sa_ray.jobs import lifecycle, open_job_store

RESULT = JobResult(
    audio=AudioInfo(
        engine="procedural",
        sample_rate=44_100,
        channels=2,
        duration=1.0,
        format="wav",
        generation_seconds=0.5,
    ),
    object=StoredObject(backend="local", key="a.wav", size=4, sha256="0" * 64),
    upload_seconds=0.1,
)
FAULT = JobError(code="generation_failed", message="It \"failed\" at 100%: {':x'} \N{CLOUD}")


def write(path: Path) -> None:
    store = open_job_store(f"sqlite:///{path}")
    for number in range(7):
        request = ResolvedRequest(
            model="small-sfx", prompt=f"rain \N{CLOUD} {number}", duration=1.0, steps=8,
            cfg_scale=1.0, seed=number,
        )  # fmt: skip
        job = lifecycle.new_job(f"{number:032x}", request, 1000.125 + number)
        store.insert(job, max_queued=100)

    def take(job: lifecycle.Job) -> lifecycle.Job:
        return lifecycle.lease(job, "w1", 1100.0, 30.0)

    succeeded, failed, cancelled, _running = store.claim(
        "small-sfx", now=1100.0, limit=4, take=take
    )
    store.replace(lifecycle.succeed(succeeded, 1, RESULT, 1101.1))
    store.replace(lifecycle.fail(failed, 1, FAULT, 1102.2))
    asked = lifecycle.cancel(cancelled, 1103.0)
    store.replace(asked)
    store.replace(lifecycle.acknowledge_cancel(asked, 1, 1103.3))
    queued = store.get(f"{4:032x}")
    assert queued is not None
    store.replace(lifecycle.cancel(queued, 1104.4))
    store.close()


with tempfile.TemporaryDirectory() as folder:
    write(Path(folder) / "jobs.db")
    with sqlite3.connect(Path(folder) / "jobs.db") as connection:
        sys.stdout.write("\n".join(connection.iterdump()) + "\n")
