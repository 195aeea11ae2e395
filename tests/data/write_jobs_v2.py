"""Writes ``jobs_v2.sql`` and ``jobs_v1.redis.json``: run with the release whose schema version is 2
in SQL and 1 in Redis, never with a later one.

``python tests/data/write_jobs_v2.py tests/data``
"""

import json
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.databases import redis_server
from sa_ray.contracts import AudioInfo, JobError, JobResult, ResolvedRequest, StoredObject
from sa_ray.jobs import JobOptions, lifecycle, open_job_store

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
FAULT = JobError(code="generation_failed", message="It failed.")
OPTIONS = {
    1: JobOptions(priority="high", webhook_url="https://example.org/"),
    3: JobOptions(expires_in=500.25),
    5: JobOptions(expires_in=600.5),
    6: JobOptions(idempotency_key="key", fingerprint="f"),
}
"""By number of the job."""


def write(url: str) -> None:
    """Jobs 0 to 6: succeeded, failed, running (cancelled), running (deadline), running, and two
    queued, one with a deadline."""
    store: Any = open_job_store(url)
    for number in range(7):
        request = ResolvedRequest(
            model="small-sfx", prompt=f"rain \N{CLOUD} {number}", duration=1.0, steps=8,
            cfg_scale=1.0, seed=number,
        )  # fmt: skip
        job = lifecycle.new_job(f"{number:032x}", request, 1000.125 + number, OPTIONS.get(number))
        store.insert(job, max_queued=100)

    def take(job: Any, worker: str = "w1") -> Any:
        return lifecycle.lease(job, worker, 1100.0, 30.0)  # type: ignore[call-arg]

    claimed = store.claim("small-sfx", now=1100.0, limit=4, take=take)
    failed, succeeded, cancelled, _ = claimed
    store.claim("small-sfx", now=1100.0, limit=1, take=lambda job: take(job, "w2"))
    store.replace(lifecycle.succeed(succeeded, 1, RESULT, 1101.1))
    store.replace(lifecycle.fail(failed, 1, FAULT, 1102.2))
    store.replace(lifecycle.cancel(cancelled, 1103.0))
    store.close()


def dump_redis(client: Any) -> dict[str, Any]:
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "set": lambda key: sorted(client.smembers(key)),
    }
    kinds = {key: client.type(key) for key in sorted(client.keys())}
    return {key: [kind, readers[kind](key)] for key, kind in kinds.items()}


if __name__ == "__main__":
    to = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        write(f"sqlite:///{folder}/jobs.db")
        with sqlite3.connect(Path(folder) / "jobs.db") as connection:
            (to / "jobs_v2.sql").write_text("\n".join(connection.iterdump()) + "\n")
    with redis_server() as server:
        write(server.url())
        import redis

        client = redis.Redis(port=server.port, decode_responses=True)
        (to / "jobs_v1.redis.json").write_text(json.dumps(dump_redis(client), indent=1) + "\n")
