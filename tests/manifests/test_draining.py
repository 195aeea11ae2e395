"""A worker that Kubernetes stops is drained first, as the image's `drain-node` asks Ray to."""

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster

from sa_ray.app import build
from tests.manifests.agreement import ROOT
from tests.ray_cluster import serve_proxies
from tests.serve.service import Service

JOBS = 12
DEADLINE_S = 120


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs and two workers with room for the whole application each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=4)
    ray.init(address=cluster.address, namespace="serve", log_to_driver=False)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def service(cluster: Cluster, tmp_path: Path) -> Iterator[Service]:
    settings: dict[str, Any] = {
        "engine": "procedural",
        "jobs_url": f"sqlite:///{tmp_path}/jobs.db",
        "output_dir": str(tmp_path / "outputs"),
        "variants": {"small-sfx": {"max_replicas": 1}},
    }
    with serve_proxies() as base_url:
        serve.run(build(settings), name="sa-ray", route_prefix="/")
        service = Service(base_url, settings)
        service.wait_until_started()
        yield service


def replicas_by_node() -> dict[str, list[str]]:
    nodes: dict[str, list[str]] = {}
    for actor in ray.util.state.list_actors(filters=[("state", "=", "ALIVE")], limit=1000):
        if actor.class_name.startswith("ServeReplica:"):
            nodes.setdefault(actor.node_id, []).append(actor.class_name)
    return nodes


def drain(cluster: Cluster, node_id: str) -> None:
    """What `drain-node` runs, for a node that is one of several on this machine."""
    script = (ROOT / "cluster" / "image" / "drain-node").read_text()
    assert "ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION" in script
    subprocess.run(
        [
            *("ray", "drain-node", "--address", cluster.address, "--node-id", node_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test"),
            *("--deadline-remaining-seconds", str(DEADLINE_S)),
        ],
        check=True,
    )


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_draining_a_worker_costs_no_request_and_no_attempt(
    cluster: Cluster, service: Service
) -> None:
    jobs = [service.submit(duration=60, steps=50, model="small-sfx") for _ in range(JOBS)]
    busy = max(replicas_by_node().items(), key=lambda entry: len(entry[1]))[0]

    with ThreadPoolExecutor(1) as pool:
        requests = pool.submit(lambda: [service.generate(duration=1) for _ in range(5)])
        drain(cluster, busy)
        deadline = time.monotonic() + DEADLINE_S
        while busy in replicas_by_node():
            assert time.monotonic() < deadline, replicas_by_node()
            time.sleep(0.5)
        statuses = [response.status_code for response in requests.result()]

    assert statuses == [200] * len(statuses)
    ended = [service.wait_for(job, "succeeded") for job in jobs]
    assert [job["attempts"] for job in ended] == [1] * JOBS
