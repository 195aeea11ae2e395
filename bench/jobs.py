"""Measure operations on jobs in a full store, against an empty one.

    uv run python -m bench.jobs [--stores sqlite,postgresql,redis]

The coordinator and the store are the real ones, in this process; nothing goes over HTTP.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import redis
from sqlalchemy import insert

from bench.databases import postgresql, redis_server
from sa_ray.contracts import AudioInfo, Job, JobResult, ResolvedRequest, StoredObject
from sa_ray.jobs import JobCoordinator, JobStore, LeaseReport, lifecycle, open_job_store
from sa_ray.jobs.stores.redis_store import scripts
from sa_ray.jobs.stores.redis_store.store import PREFIX, row
from sa_ray.jobs.stores.rows import columns
from sa_ray.jobs.stores.sql_store.engine import create_job_engine
from sa_ray.jobs.stores.sql_store.schema import JOBS
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator

QUEUED = 100_000
ENDED = 500_000
CALLS = 200
CHUNK = 2_000
MAX_WAIT_S = 30 * 86_400.0
"""Longer than any job here has waited, so that each may have to be looked through."""

MODELS = ("small-sfx", "small-music", "medium")
REQUEST = ResolvedRequest(
    model="small-sfx", prompt="rain on a tin roof", duration=7, steps=8, cfg_scale=1, seed=1
)
RESULT = JobResult(
    audio=AudioInfo(
        engine="procedural", sample_rate=44_100, channels=2, duration=7, format="wav",
        generation_seconds=0.5,
    ),
    object=StoredObject(backend="local", key="a.wav", size=4, sha256="0" * 64),
    upload_seconds=0.1,
)  # fmt: skip
ESTIMATOR = Estimator(
    Cost(batch=0.1, row=0.1, second=0.1, sampling=1, guidance=2), max_rows=8, max_seconds=480
)

Operation = Callable[[], Awaitable[object]]


def stored_jobs(queued: int, ended: int) -> Iterator[Job]:
    """Ended jobs, then queued ones, as old as a week and younger."""
    began = time.time() - 7 * 86_400
    for number in range(ended + queued):
        request = REQUEST.model_copy(update={"model": MODELS[number % len(MODELS)]})
        job = lifecycle.new_job(uuid.uuid4().hex, request, began + number, max_wait=MAX_WAIT_S)
        if number < ended:
            running = lifecycle.lease(job, "w", began + number)
            job = lifecycle.succeed(running, 1, RESULT, began + number + 5)
        yield job


def fill(url: str, queued: int, ended: int) -> None:
    """Add jobs to a store that has been opened before."""
    jobs = stored_jobs(queued, ended)
    add = _redis_rows if url.startswith("redis") else _sql_rows
    add(url, iter(lambda: list(itertools.islice(jobs, CHUNK)), []))


def _sql_rows(url: str, chunks: Iterator[list[Job]]) -> None:
    engine = create_job_engine(url)
    for chunk in chunks:
        with engine.begin() as connection:
            connection.execute(insert(JOBS), [columns(job) for job in chunk])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def _redis_rows(url: str, chunks: Iterator[list[Job]]) -> None:
    with redis.Redis.from_url(url) as client:
        script = client.register_script(scripts.INSERT)
        for chunk in chunks:
            with client.pipeline(transaction=False) as pipeline:
                for job in chunk:
                    script(keys=[PREFIX], args=row(job), client=pipeline)
                pipeline.execute()


def operations(coordinator: JobCoordinator, store: JobStore) -> dict[str, Operation]:
    last: list[str] = []

    async def submit() -> None:
        last.append((await coordinator.submit(uuid.uuid4().hex, REQUEST)).job.id)

    async def lease_and_hand_back() -> None:
        [job] = await coordinator.lease("small-sfx", "worker", 1)
        await coordinator.release(job.id, job.token)

    return {
        "submit": submit,
        "status of the last in the queue": lambda: coordinator.get(last[-1]),
        "lease and hand back": lease_and_hand_back,
        "look for work": lambda: coordinator.wait_for_work("small-sfx", 5),
        "renew": lambda: coordinator.renew("worker", [LeaseReport("0" * 32, 1, 0.5)]),
        "list 50 jobs": lambda: coordinator.page(50),
        "backlog": lambda: coordinator.backlog("small-sfx", ESTIMATOR, 60),
        "counts": coordinator.counts,
        "find jobs that waited too long": lambda: asyncio.to_thread(
            store.overdue, now=time.time(), limit=256
        ),
        "health (check and counts)": lambda: asyncio.gather(
            coordinator.check(), coordinator.counts()
        ),
    }


async def measure(store: JobStore) -> dict[str, tuple[float, float]]:
    """Return the median wall time and the mean CPU time of each operation, ms."""
    coordinator = JobCoordinator(store, clock=time.time, max_queued=10_000_000, max_wait=MAX_WAIT_S)
    measured = {}
    for name, operation in operations(coordinator, store).items():
        await operation()
        times = []
        cpu = time.process_time()
        for _ in range(CALLS):
            began = time.perf_counter()
            await operation()
            times.append(time.perf_counter() - began)
        cpu = time.process_time() - cpu
        measured[name] = 1000 * statistics.median(times), 1000 * cpu / CALLS
    await coordinator.close()
    return measured


def compare(stores: list[str]) -> None:
    """Print a table for each store, empty but for ``CALLS`` jobs, and full."""
    print(f"{QUEUED:,} queued and {ENDED:,} ended jobs, {CALLS} calls each, one after another")
    print("| store | operation | empty, ms | full, ms | ratio | CPU ms, empty | CPU ms, full |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in stores:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            urls: dict[str, Any] = {
                "sqlite": lambda: f"sqlite:///{folder}/jobs.db",  # noqa: B023
                "postgresql": lambda: stack.enter_context(postgresql()).create_database("jobs"),
                "redis": lambda: stack.enter_context(redis_server()).url(),
            }
            url = urls[name]()
            open_job_store(url).close()
            fill(url, CALLS, 0)
            empty = asyncio.run(measure(open_job_store(url)))
            fill(url, QUEUED, ENDED)
            full = asyncio.run(measure(open_job_store(url)))
        for operation, (wall, cpu) in empty.items():
            full_wall, full_cpu = full[operation]
            print(
                f"| {name} | {operation} | {wall:.2f} | {full_wall:.2f} | {full_wall / wall:.2f} "
                f"| {cpu:.2f} | {full_cpu:.2f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stores", default="sqlite,postgresql,redis")
    compare(parser.parse_args().stores.split(","))


if __name__ == "__main__":
    main()
