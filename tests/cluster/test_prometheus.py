"""A real Prometheus scrapes the service, and has an answer for every panel of the dashboard."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster

from tests.support.prometheus import Prometheus, panels, scraping, tool

from .application import CONTROL, Application
from .conftest import AddNode

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

WITHOUT_DATA = {"GPU utilisation", "GPU memory"}
"""Panels of which Ray has metrics on real GPUs alone."""


COUNTED = {
    "audio": "sum(ray_sa_ray_audio_seconds_total) by (key, variant)",
    "calls": 'sum(ray_sa_ray_requests_total{route="/v1/audio/generations"}) by (method, status)',
    "refusals": "sum(ray_sa_ray_refusals_total) by (code, status)",
    "ends": "sum(ray_sa_ray_job_endings_total) by (status, variant)",
}
EXPECTED: dict[str, dict[tuple[str, ...], float]] = {
    "audio": {("anonymous", "small-sfx"): 7.0},
    "calls": {("POST", "2xx"): 3.0, ("POST", "4xx"): 1.0},
    "refusals": {("invalid_request", "422"): 1.0, ("payload_too_large", "413"): 1.0},
    "ends": {("succeeded", "small-sfx"): 2.0},
}
"""The labels, in alphabetical order, and the value of each series."""


def counted(prometheus: Prometheus) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        name: {
            tuple(text for _, text in sorted(one["metric"].items())): float(one["value"][1])
            for one in prometheus.ask(expression)
        }
        for name, expression in COUNTED.items()
    }


def gpu_seconds(prometheus: Prometheus) -> float:
    samples = prometheus.ask("sum(ray_sa_ray_gpu_seconds_total)")
    return float(samples[0]["value"][1])


def reported_gpu_seconds(app: Application) -> float:
    days = app.service.http.get("/v1/usage").json()["usage"]
    return float(sum(day["gpu_seconds"] for day in days))


def exporters(cluster: Cluster) -> list[str]:
    nodes = GcsClient(address=cluster.gcs_address).get_all_node_info().values()
    return [f"127.0.0.1:{node.metrics_export_port}" for node in nodes if node.state == 0]


def unanswered(prometheus: Prometheus) -> dict[str, list[str]]:
    """Queries without a sample, by panel."""
    asked = {title: queries for title, queries in panels().items() if title not in WITHOUT_DATA}
    without = {
        title: [query for query in queries if not prometheus.ask(query)]
        for title, queries in asked.items()
    }
    return {title: queries for title, queries in without.items() if queries}


def test_every_panel_has_data_after_some_calls_and_jobs(
    uncounted: Cluster,
    add_node: AddNode,
    application: Callable[..., Application],
    tmp_path: Path,
) -> None:
    tool("prometheus")
    add_node(num_cpus=1, num_gpus=1, resources={"small": 1})
    app = application(preload_models="small-sfx")
    half = {"num_cpus": 0.1, "num_gpus": 0.5, "resources": {"small": 0.1}}
    control = {"ray_actor_options": CONTROL}
    app.deploy(
        {
            "ingress": control,
            "dispatcher": control,
            "small-sfx": {"ray_actor_options": half},
            "small-music": control,
            "medium": control,
        }
    )
    for _ in range(3):
        assert app.service.generate(duration=1, n=2).status_code == 200
    assert app.service.generate(duration=-1).status_code == 422
    too_large = {"content": b" " * (2 << 20), "headers": {"content-type": "application/json"}}
    assert app.service.http.post("/jobs", **too_large).status_code == 413
    for number in range(2):
        app.service.wait_for(app.service.submit(seed=number), "succeeded")

    with scraping(exporters(uncounted), tmp_path) as prometheus:
        last: list[dict[str, list[str]]] = [{}]

        def all_answered() -> bool:
            last[0] = unanswered(prometheus)
            return not last[0]

        try:
            app.until(all_answered)
        except AssertionError:
            raise AssertionError(last[0]) from None

        assert {rule["health"] for rule in prometheus.rules()} == {"ok"}
        # Processes send what they have counted every ten seconds, each at its own time.
        app.until(lambda: counted(prometheus) == EXPECTED)
        app.until(lambda: gpu_seconds(prometheus) == pytest.approx(reported_gpu_seconds(app)))
        assert reported_gpu_seconds(app) > 0
