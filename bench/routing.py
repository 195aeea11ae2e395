"""Measure whether short clips wait for long ones, with either router on real replicas.

Starts a Ray cluster of its own and deploys the application with the procedural engine and two
replicas of ``medium``. While one long job after another is made, short clips are requested by HTTP,
at the same random moments for either router.

    python -m bench.routing
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import httpx
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from sa_ray.local import free_port

MODEL = "medium"
REPLICAS = 2
PROMPT = "muffled thunder, rain, wind, a siren, a choir and a drum loop"
SHORT = {"model": MODEL, "prompt": PROMPT, "duration": 2, "steps": 8}
LONG = {"model": MODEL, "prompt": PROMPT, "duration": 380, "steps": 50}
ROUTERS = {
    "power of two": {
        "request_router_config": {
            "request_router_class": (
                "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"
            )
        }
    },
    "earliest completion": {},
}
"""Serve's own router, and the service's."""


def deploy(folder: str, options: dict[str, object]) -> None:
    scaling = {"min_replicas": REPLICAS, "max_replicas": REPLICAS}
    application = {
        "name": "sa-ray",
        "import_path": "sa_ray.app:build",
        "args": {
            "engine": "procedural",
            "preload_models": "",
            "jobs_url": f"sqlite:///{folder}/jobs.db",
            "output_dir": folder,
        },
        "deployments": [{"name": MODEL, "autoscaling_config": scaling, **options}],
    }
    schema = ServeDeploySchema.model_validate({"applications": [application]})
    _get_global_client().deploy_apps(schema, _blocking=True)


async def waits(base_url: str, requests: int, rate: float, seed: int) -> list[float]:
    """Return the seconds that each short clip took."""
    chance = random.Random(seed)  # noqa: S311
    taken: list[float] = []
    async with httpx.AsyncClient(base_url=base_url, timeout=120) as http:

        async def long_jobs() -> None:
            while True:
                job = (await http.post("/jobs", json=LONG)).raise_for_status().json()
                while job.get("completed_at") is None:
                    answer = await http.get(f"/jobs/{job['id']}", params={"wait": 30})
                    job = answer.raise_for_status().json()

        async def ask() -> None:
            started = time.monotonic()
            answer = await http.post("/v1/audio/generations", json=SHORT)
            answer.raise_for_status()
            taken.append(time.monotonic() - started)

        background = asyncio.create_task(long_jobs())
        asked = []
        for _ in range(requests):
            await asyncio.sleep(chance.expovariate(rate))
            asked.append(asyncio.create_task(ask()))
        await asyncio.gather(*asked)
        if background.done():
            background.result()
        background.cancel()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="for each of four runs")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=3.0, help="requests a second")
    options = parser.parse_args()
    port = free_port()
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    print("| run | router | short clips: median, p95 s | over 1 s |\n| --- | --- | --- | --- |")
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for run in range(1, options.runs + 1):
                for name, router in ROUTERS.items():
                    deploy(f"{folder}/{run}-{name}", router)
                    found = asyncio.run(
                        waits(f"http://127.0.0.1:{port}", options.requests, options.rate, run)
                    )
                    p95 = statistics.quantiles(found, n=20)[-1]
                    held_up = sum(seconds > 1 for seconds in found) / len(found)
                    print(
                        f"| {run} | {name} | {statistics.median(found):.2f}, {p95:.2f} "
                        f"| {held_up:.0%} |",
                        flush=True,
                    )
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
