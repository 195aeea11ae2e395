"""What keys cost a request: its time in the application, and over HTTP, with keys and without.

The kinds of requests take turns, so that whatever else the machine does falls on all of them alike.

    python -m bench.keys            # the application, in this process
    python -m bench.keys --http     # two services, one with keys
"""

import argparse
import asyncio
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from fastapi import FastAPI

from sa_ray.access import Keyring, new_secret
from sa_ray.access.keys_file import hash_text
from sa_ray.local import LocalService
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.settings import EdgeSettings, LimitSettings

PATH = "/v1/presets"
"""Needs a key, and neither a store nor a model."""

KEYS = 1000
ROUNDS = 2000
MINUTE = 100_000
"""Requests a minute of the key that has a limit: more than are made."""

GOAL_MS = 0.3

Ask = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", action="store_true", help="over HTTP, through Serve's proxy")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sa-ray-bench-")))
        secrets = write_keys(folder / "keys.yaml")
        kinds = over_http if options.http else in_process
        asks = stack.enter_context(kinds(folder, secrets))
        times = measured(asks, options.rounds)
    show(times)


def write_keys(path: Path) -> dict[str, str]:
    """Write a file of many keys; return one without limits and one with."""
    secrets = {f"key-{number}": new_secret() for number in range(KEYS)}
    entries: list[dict[str, Any]] = [
        {"name": name, "hash": hash_text(secret)} for name, secret in secrets.items()
    ]
    entries[1]["limits"] = {"requests_per_minute": MINUTE, "concurrent_requests": 8}
    path.write_text(yaml.safe_dump({"keys": entries}))
    return {"a key": secrets["key-0"], "a key with limits": secrets["key-1"]}


@contextmanager
def in_process(folder: Path, secrets: dict[str, str]) -> Iterator[dict[str, Ask]]:
    edge, limits = EdgeSettings(), LimitSettings()
    keyed = build_http_app(edge, limits, Keyring(folder / "keys.yaml"))
    with asyncio.Runner() as runner:

        def ask(app: FastAPI, *headers: tuple[bytes, bytes]) -> Ask:
            return lambda: runner.run(get(app, *headers))

        yield {"no keys": ask(build_http_app(edge, limits))} | {
            name: ask(keyed, (b"authorization", f"Bearer {secret}".encode()))
            for name, secret in secrets.items()
        }


async def get(app: FastAPI, *headers: tuple[bytes, bytes]) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"127.0.0.1:8000"), *headers],
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"answered {message['status']}")

    await app(scope, receive, send)


@contextmanager
def over_http(folder: Path, secrets: dict[str, str]) -> Iterator[dict[str, Ask]]:
    with ExitStack() as stack:

        def service(name: str, **settings: str) -> httpx.Client:
            place = folder / name
            place.mkdir()
            stores = {"jobs_url": f"sqlite:///{place}/jobs.db", "output_dir": f"{place}/outputs"}
            running = stack.enter_context(LocalService(place, {**stores, **settings}))
            running.wait_until_ready()
            return stack.enter_context(httpx.Client(base_url=running.base_url, trust_env=False))

        def ask(client: httpx.Client, secret: str = "") -> Ask:
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            return lambda: client.get(PATH, headers=headers).raise_for_status() and None

        asks = {"no keys": ask(service("without"))}
        keyed = service("with", api_keys_file=str(folder / "keys.yaml"))
        yield asks | {name: ask(keyed, secret) for name, secret in secrets.items()}


def measured(asks: dict[str, Ask], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each kind of request, after a tenth of the rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(-rounds // 10, rounds):
        for name, ask in asks.items():
            began = time.perf_counter()
            ask()
            if number >= 0:
                times[name].append((time.perf_counter() - began) * 1000)
    return times


def show(times: dict[str, list[float]]) -> None:
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, "
        f"`{' '.join(sys.argv)}`\n\n| request | median ms | mean ms | more, median |\n"
        "| --- | --- | --- | --- |"
    )
    base = statistics.median(times["no keys"])
    for name, each in times.items():
        median = statistics.median(each)
        more = f"{median - base:+.3f} ms ({median / base:.2f})"
        print(f"| {name} | {median:.3f} | {statistics.mean(each):.3f} | {more} |")
    print(f"\nGoal: at most {GOAL_MS} ms more.")


if __name__ == "__main__":
    main()
