"""Latency of `/health` while a 120 s clip is generated and encoded, beside idle.

uv run python bench/health.py
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from sa_ray.local import LocalService

IDLE_S = 5.0
CLIP = {"prompt": "rain, wind and thunder", "duration": 120, "steps": 50, "format": "mp3"}


def poll(base_url: str, going_on: Callable[[], bool]) -> list[float]:
    """Return the latencies, milliseconds, of requests made one after the other."""
    latencies = []
    with httpx.Client(base_url=base_url) as client:
        while going_on():
            started = time.perf_counter()
            client.get("/health").raise_for_status()
            latencies.append(1000 * (time.perf_counter() - started))
    return latencies


def describe(name: str, latencies: list[float]) -> None:
    ordered = sorted(latencies)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    print(
        f"{name:12} {len(ordered):5} requests   median {statistics.median(ordered):6.1f} ms   "
        f"p99 {p99:6.1f} ms   max {ordered[-1]:6.1f} ms"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        args = {"jobs_url": f"sqlite:///{folder}/jobs.db", "output_dir": f"{folder}/outputs"}
        with LocalService(Path(folder), args) as service:
            service.wait_until_ready()
            httpx.post(f"{service.base_url}/generate", json={"prompt": "rain"}, timeout=60)
            deadline = time.monotonic() + IDLE_S
            idle = poll(service.base_url, lambda: time.monotonic() < deadline)

            def generate() -> None:
                url = f"{service.base_url}/generate"
                httpx.post(url, json=CLIP, timeout=600).raise_for_status()

            work = threading.Thread(target=generate)
            work.start()
            busy = poll(service.base_url, work.is_alive)
    describe("idle", idle)
    describe("generating", busy)


if __name__ == "__main__":
    main()
