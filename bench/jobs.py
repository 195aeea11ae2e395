"""Submits and status reads per second through HTTP for each job store, beside plain FastAPI.

    uv run python -m bench.jobs --size [--stores sqlite,postgresql,redis]
    uv run python -m bench.jobs [--stores sqlite,postgresql,redis] [--seconds 10] [--clients 32]

For each store: the comparator (`bench/jobs_comparator.py`, in memory), then the whole service on an
empty store, under the same load from the same client. No job is generated: the jobs are for
`medium`, whose replica asks for more CPUs than the machine has. So two are leased, and the others
stay in the durable queue.
"""

import argparse
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import uvloop

from bench.databases import postgresql, redis_server
from bench.http_load import Load, closed_loop, get, post
from bench.job_store_size import compare
from bench.process_usage import cpu_between, usage
from sa_ray.local import LocalService, free_port

WARM_UP_S = 3.0
BODY = json.dumps({"prompt": "rain on a tin roof", "model": "medium", "duration": 30}).encode()
SHOWN_CPU_MS = 0.05


class Result(NamedTuple):
    load: Load
    cpu_ms: dict[str, float]
    """Milliseconds of CPU for each request, by part."""


def measure(port: int, clients: int, seconds: float) -> dict[str, Result]:
    """Measure submits, reads of the submitted jobs, and reads of the list of models.

    The list asks no other process. Each follows a warm-up that does not count.
    """
    ids: list[str] = []

    def submit(duration: float) -> Load:
        load = uvloop.run(
            closed_loop(
                port,
                clients=clients,
                seconds=duration,
                request=lambda: post("/jobs", BODY),
                status=202,
                keep_bodies=True,
            )
        )
        ids.extend(json.loads(body)["id"] for body in load.bodies)
        return load

    def read(duration: float) -> Load:
        paths = itertools.cycle([f"/jobs/{job_id}" for job_id in ids[-1000:]])
        return reading(lambda: get(next(paths)), duration)

    def list_models(duration: float) -> Load:
        return reading(lambda: get("/v1/models"), duration)

    def reading(request: Callable[[], bytes], duration: float) -> Load:
        return uvloop.run(
            closed_loop(port, clients=clients, seconds=duration, request=request, status=200)
        )

    results = {}
    for name, phase in (("submit", submit), ("read", read), ("HTTP alone", list_models)):
        phase(WARM_UP_S)
        before = usage()
        load = phase(seconds)
        spent = cpu_between(before, usage())
        results[name] = Result(
            load, {part: 1000 * cpu / len(load.latencies) for part, cpu in spent.items()}
        )
    return results


@contextmanager
def comparator() -> Iterator[int]:
    port = free_port()
    command = ["-m", "uvicorn", "bench.jobs_comparator:app", "--port", str(port)]
    with subprocess.Popen([sys.executable, *command, "--log-level", "warning"]) as process:
        try:
            for _ in range(200):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/jobs/none")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield port
        finally:
            process.terminate()


@contextmanager
def service(store: str) -> Iterator[int]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {
            "sqlite": lambda: f"sqlite:///{folder}/jobs.db",
            "postgresql": lambda: stack.enter_context(postgresql()).create_database("jobs"),
            "redis": lambda: stack.enter_context(redis_server()).url(),
        }
        args = {
            "jobs_url": urls[store](),
            "output_dir": f"{folder}/outputs",
            "engine": "procedural",
            "preload_models": "",
            "max_queued_jobs": 1_000_000,
            "variants": {"medium": {"cpu": 1000, "max_replicas": 1, "max_batch_rows": 1}},
        }
        running = stack.enter_context(LocalService(folder, args))
        running.wait_until_ready()
        yield running.port


def row(what: str, operation: str, result: Result, base: Result | None) -> str:
    load, cpu = result.load, result.cpu_ms
    ratio = f"{load.per_second / base.load.per_second:.3f}" if base else "1"
    parts = ", ".join(f"{part} {ms:.2f}" for part, ms in cpu.items() if ms >= SHOWN_CPU_MS)
    return (
        f"| {what} | {operation} | {load.per_second:.0f} | {load.quantile_ms(0.5):.1f} | "
        f"{load.quantile_ms(0.95):.1f} | {ratio} | {parts} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stores", default="sqlite,postgresql,redis")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument(
        "--size",
        action="store_true",
        help="without HTTP, what each operation costs on a full store against an empty one",
    )
    options = parser.parse_args()
    if options.size:
        compare(options.stores.split(","))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, and so stops the service

    print("| | operation | a second | p50 ms | p95 ms | ratio | CPU ms a request |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for store in options.stores.split(","):
        with comparator() as port:
            base = measure(port, options.clients, options.seconds)
        with service(store) as port:
            ours = measure(port, options.clients, options.seconds)
        for operation in base:
            print(row(f"comparator before {store}", operation, base[operation], None))
            print(row(store, operation, ours[operation], base[operation]), flush=True)


if __name__ == "__main__":
    main()
