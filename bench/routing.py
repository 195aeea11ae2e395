"""Do short clips wait for long ones? The same requests to real replicas, with either router.

Starts a Ray cluster of its own, deploys the application with the procedural engine and three
replicas of ``medium``, and sends short clips at random moments while long ones are being made.

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

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from sa_ray.contracts import ResolvedRequest
from sa_ray.local import free_port

SERVES_OWN = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"
PROMPT = "muffled thunder, rain, wind, a siren, a choir and a drum loop"
SHORT_S, LONG_S = 5.0, 380.0
REPLICAS = 3


def clip(duration: float, number: int) -> ResolvedRequest:
    return ResolvedRequest(
        model="medium", prompt=PROMPT, duration=duration, steps=20, cfg_scale=1, seed=number
    )


def deploy(folder: str, *, own_router: bool) -> None:
    medium: dict[str, object] = {
        "name": "medium",
        "autoscaling_config": {"min_replicas": REPLICAS, "max_replicas": REPLICAS},
    }
    if not own_router:
        medium["request_router_config"] = {"request_router_class": SERVES_OWN}
    application = {
        "name": "sa-ray",
        "import_path": "sa_ray.app:build",
        "args": {
            "engine": "procedural",
            "preload_models": "",
            "jobs_url": f"sqlite:///{folder}/jobs.db",
            "output_dir": folder,
        },
        "deployments": [medium],
    }
    schema = ServeDeploySchema.model_validate({"applications": [application]})
    _get_global_client().deploy_apps(schema, _blocking=True)


async def latencies(requests: int, rate: float, long_share: float, seed: int) -> dict[str, list]:
    """Seconds from sending a request to its audio, of short clips and of long ones."""
    handle = serve.get_deployment_handle("medium", "sa-ray")
    chance = random.Random(seed)  # noqa: S311
    found: dict[str, list[float]] = {"short": [], "long": []}

    async def send(kind: str, number: int) -> None:
        started = time.monotonic()
        await handle.generate.remote(clip(SHORT_S if kind == "short" else LONG_S, number))
        found[kind].append(time.monotonic() - started)

    sent = []
    for number in range(requests):
        kind = "long" if chance.random() < long_share else "short"
        sent.append(asyncio.create_task(send(kind, number)))
        await asyncio.sleep(chance.expovariate(rate))
    await asyncio.gather(*sent)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=80, help="for each of four runs")
    parser.add_argument("--rate", type=float, default=1.5, help="requests a second")
    parser.add_argument("--long", type=float, default=0.06, help="share of long clips")
    options = parser.parse_args()
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": free_port()})
    print("| run | router | short: median, p95 s | long: median s |")
    print("| --- | --- | --- | --- |")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for run in (1, 2):
                for own_router in (False, True):
                    deploy(folder, own_router=own_router)
                    asyncio.run(latencies(REPLICAS * 4, 5, 0, 0))  # every replica, once
                    found = asyncio.run(
                        latencies(options.requests, options.rate, options.long, run)
                    )
                    short = statistics.quantiles(found["short"], n=20)
                    print(
                        f"| {run} | {'earliest completion' if own_router else 'power of two'} "
                        f"| {statistics.median(found['short']):.2f}, {short[-1]:.2f} "
                        f"| {statistics.median(found['long']):.2f} |",
                        flush=True,
                    )
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
