"""Servers to load: the service with a pretended engine, and the old server beside it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import httpx
import yaml

from bench.databases import postgresql, redis_server
from sa_ray.local import LocalService, free_port
from sa_ray.local.configuration import IMPORT_PATH

ROOT = Path(__file__).parents[2]
BUILDERS = {
    "zero": "bench.loadtest.application:zero_cost",
    "gpu": "bench.loadtest.application:pretended_gpu",
    "calls": "bench.loadtest.application:calling_gpu",
    "calls-apart": "bench.loadtest.application:calling_gpu_apart",
}
ENGINES = {
    "zero": "an engine that costs nothing; that of small-music takes minutes, so its jobs wait",
    "gpu": "simulated GPU: an engine that sleeps like an H100",
    "calls": "simulated GPU: an engine that sleeps in many short calls, in its replica's process",
    "calls-apart": "simulated GPU: the same, in a process of its own",
    "eager": "simulated GPU: an engine that sleeps like the model's package on an H200",
}
"""Descriptions of engines in results."""

START_TIMEOUT_S = 30.0


def is_simulated(engine: str) -> bool:
    """Return whether the times of ``engine`` are pretended ones."""
    return engine in ("gpu", "calls", "calls-apart", "eager")


class PretendedService(LocalService):
    """The service in a child process on a private Ray, with the engine ``engine``.

    ``replicas``: how many each variant named has, from the start on and for good; others have none.
    ``gpus``: GPUs that Ray is told there are, one for each replica of a simulated engine.
    """

    def __init__(
        self,
        folder: Path,
        engine: str,
        replicas: Mapping[str, int],
        args: Mapping[str, Any],
        *,
        port: int | None = None,
    ) -> None:
        self._gpus = sum(replicas.values()) if is_simulated(engine) else 0
        gpu = {"engine": "procedural", "device": "cuda"} if is_simulated(engine) else {}
        super().__init__(folder, {"engine": "procedural", **gpu, **args}, port=port)
        document = yaml.safe_load(self._config.read_text())
        for application in document["applications"]:
            if application["import_path"] == IMPORT_PATH:
                application["import_path"] = BUILDERS[engine]
                for one in application["deployments"]:
                    if count := replicas.get(one["name"]):
                        one["autoscaling_config"] = {
                            "min_replicas": count, "max_replicas": count
                        }  # fmt: skip
        self._config.write_text(yaml.safe_dump(document, sort_keys=False))

    def __enter__(self) -> Self:
        # Serve's processes import the builder.
        os.environ["PYTHONPATH"] = str(ROOT)
        if self._gpus:
            os.environ["RAY_OVERRIDE_RESOURCES"] = f'{{"GPU": {self._gpus}}}'
        else:
            os.environ.pop("RAY_OVERRIDE_RESOURCES", None)
        super().__enter__()
        return self


@contextmanager
def service(
    engine: str,
    replicas: Mapping[str, int],
    *,
    store: str = "sqlite",
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    **args: Any,
) -> Iterator[PretendedService]:
    """Start the service, empty, and wait until its replicas are up.

    ``variants``: overrides of the catalogue, over ones that leave the CPUs to whoever needs them.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        urls = {
            "sqlite": lambda: f"sqlite:///{folder}/jobs.db",
            "postgresql": lambda: stack.enter_context(postgresql()).create_database("jobs"),
            "redis": lambda: stack.enter_context(redis_server()).url(),
        }
        whole = {"gpu": 1} if is_simulated(engine) else {}
        given = variants or {}
        overrides = {
            name: {"cpu": 0.01, "max_replicas": count, **whole, **given.get(name, {})}
            for name, count in replicas.items()
        } | {name: dict(one) for name, one in given.items() if name not in replicas}
        settings = {
            "jobs_url": urls[store](),
            "output_dir": f"{folder}/outputs",
            "preload_models": ",".join(replicas),
            "variants": overrides,
            "allow_anonymous": True,
            "health_details": "everyone",
            **args,
        }
        running = stack.enter_context(PretendedService(folder, engine, replicas, settings))
        running.wait_until_ready()
        _wait_until_up(running, replicas)
        yield running


def _wait_until_up(running: LocalService, replicas: Mapping[str, int]) -> None:
    """Wait until all ``replicas`` are there: a service is ready with the first of each."""
    deadline = time.monotonic() + 180
    while True:
        variants = httpx.get(f"{running.base_url}/health", timeout=10).json()["variants"]
        if all(variants[name]["replicas"] >= n for name, n in replicas.items()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all replicas are up: {variants}")
        time.sleep(0.5)


@contextmanager
def old_server(engine: str) -> Iterator[int]:
    """Start ``bench/baseline.py`` and yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "bench.baseline", "--port", str(port), "--engine", engine]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            _wait_until_listening(process, port)
            yield port
        finally:
            process.terminate()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/jobs/none")
            return
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
