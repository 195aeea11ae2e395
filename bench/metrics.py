"""What recording metrics costs a request, beside the same without it, in the same process.

The ingress application runs in this process, which has joined a Ray of its own, so that what is
recorded goes where it goes in a service. Rounds with and without metrics take turns.

    python -m bench.metrics
"""

import asyncio
import logging
import platform
import statistics
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import ray
from fastapi import FastAPI

from sa_ray.serving import metrics
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.settings import load_settings

ROUNDS = 20
REQUESTS = 500
RECORDS = 20_000


async def get(app: FastAPI, path: str) -> int:
    """Return the status."""
    statuses = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return int(statuses[0])


async def microseconds(app: FastAPI, path: str) -> float:
    started = time.process_time()
    for _ in range(REQUESTS):
        await get(app, path)
    return (time.process_time() - started) / REQUESTS * 1e6


async def requests() -> None:
    settings = load_settings({})
    app = build_http_app(settings.edge, settings.limits)
    for path, status in (("/v1/presets", 200), ("/nothing", 404)):
        if await get(app, path) != status:
            raise SystemExit(f"GET {path} was not answered {status}")
        times: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * ROUNDS):
            metrics.ENABLED = number % 2 == 0  # type: ignore[misc]
            times[metrics.ENABLED].append(await microseconds(app, path))
        on, off = (statistics.median(times[is_on]) for is_on in (True, False))
        print(f"| GET {path} ({status}) | {off:.0f} | {on:.0f} | {on - off:.1f} | {on / off:.3f} |")
    metrics.ENABLED = True  # type: ignore[misc]


def record(name: str, work: Callable[[], object]) -> None:
    started = time.process_time()
    for _ in range(RECORDS):
        work()
    print(f"| {name} | {(time.process_time() - started) / RECORDS * 1e6:.1f} |")


def main() -> None:
    logging.disable()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}\n"
    )
    print("| CPU microseconds | without | with | more | ratio |\n| --- | --- | --- | --- | --- |")
    asyncio.run(requests())
    print("\n| CPU microseconds of a record |  |\n| --- | --- |")
    labels = {"method": "GET", "route": "/health", "status": "2xx"}
    record("counter", lambda: metrics.REQUESTS.add(**labels))
    record("histogram", lambda: metrics.AUDIO_RTF.observe(0.01, variant="medium"))
    record("gauge", lambda: metrics.STORE_UP.set(1.0, store="jobs"))
    ray.shutdown()


if __name__ == "__main__":
    main()
