"""The image's Ray, started and spoken to as KubeRay does: head, worker, token, probes, metrics."""

import copy
import json
import shlex
from typing import Any

import pytest
import yaml

from tests.manifests.agreement import Deployment
from tests.manifests.container import Image
from tests.manifests.test_dashboard import LABELS, METRIC, expressions

START = """
set -eu
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN={token}
ray start --head --node-ip-address=127.0.0.1 --num-cpus=0 --dashboard-host=0.0.0.0 \\
    --dashboard-agent-listen-port=52365 --metrics-export-port=8080
worker() {{ ray start --address=127.0.0.1:6379 --node-ip-address=127.0.0.1 "$@"; }}
worker --num-cpus=2 --labels=sa-ray/role=control \\
    --dashboard-agent-listen-port=52366 --metrics-export-port=8081
worker --num-cpus=2 --labels=sa-ray/role=control \\
    --dashboard-agent-listen-port=52367 --metrics-export-port=8082
worker --num-cpus=6 --num-gpus=1 --dashboard-agent-listen-port=52368 --metrics-export-port=8083
mkdir /tmp/data
printf %s {config} > /tmp/config.yaml
serve deploy /tmp/config.yaml --address http://127.0.0.1:8265
"""

ASK = """
import json, os, sys, time
import httpx, ray
from ray.util.state import list_actors

deadline = time.monotonic() + 300

def get(url, **options):
    try:
        return httpx.get(url, timeout=30, **options)
    except httpx.TransportError:
        return None

def until(ask, good):
    while not good(answer := ask()):
        if time.monotonic() > deadline:
            sys.exit(f"not in time: {answer}")
        time.sleep(1)
    return answer

base = "http://127.0.0.1:8000"
health = until(
    lambda: get(f"{base}/health"),
    lambda answer: answer is not None and answer.is_success and answer.json()["status"] == "ok",
)
clip = httpx.post(
    f"{base}/v1/audio/generations", json={"prompt": "a bell", "duration": 1}, timeout=60
)
token = {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
applications = "http://127.0.0.1:8265/api/serve/applications/"
ports = (8080, 8081, 8082, 8083)
until(
    lambda: "".join(
        answer.text for port in ports if (answer := get(f"http://127.0.0.1:{port}/metrics"))
    ),
    lambda exported: all(name in exported for name in json.loads(sys.argv[1])),
)
ray.init(address="auto", log_to_driver=False)

def role(node):
    resources = node["Resources"]
    if "node:__internal_head__" in resources:
        return "head"
    return "gpu" if "GPU" in resources else node["Labels"].get("sa-ray/role")

print(json.dumps({
    "engine": health.json()["engine"],
    "clip": [clip.status_code, clip.headers.get("content-type")],
    "head's probes": get("http://127.0.0.1:52365/api/healthz").status_code,
    "worker's probes": [
        get("http://127.0.0.1:52366/api/healthz").status_code,
        get(f"{base}/-/healthz").status_code,
    ],
    "without token": get(applications).status_code,
    "application": get(applications, headers=token).json()["applications"]["sa-ray"]["status"],
    "roles": {node["NodeID"]: role(node) for node in ray.nodes()},
    "actors": [
        [actor.class_name, actor.node_id]
        for actor in list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
    ],
}))
"""

EXPORTED_AT_ONCE = {
    *("ray_serve_num_http_requests_total", "ray_serve_http_request_latency_ms_bucket"),
    *("ray_serve_deployment_replica_healthy", "ray_serve_deployment_request_counter_total"),
    *("ray_serve_deployment_processing_latency_ms_bucket", "ray_serve_deployment_queued_queries"),
    *("ray_serve_replica_processing_queries", "ray_object_store_memory"),
}
"""Of the dashboard's metrics, those that need neither an error nor a GPU."""


@pytest.fixture(scope="module")
def answers(image: Image, autoscaling: Deployment) -> dict[str, Any]:
    config = copy.deepcopy(autoscaling.serve_config)
    (application,) = config["applications"]
    # In place of what is not here: GPUs, Redis, a bucket.
    del application["args"]["storage_bucket"]
    application["args"] |= {"engine": "procedural", "device": "cpu"}
    application["args"] |= {"jobs_url": "sqlite:////tmp/data/jobs.db", "output_dir": "/tmp/data"}  # noqa: S108
    start = START.format(token="0123456789abcdef" * 4, config=shlex.quote(yaml.safe_dump(config)))
    asked = shlex.join(["python", "-c", ASK, json.dumps(sorted(EXPORTED_AT_ONCE))])

    done = image.run(start + asked)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def roles(answers: dict[str, Any], kind: str) -> list[str]:
    """On nodes of which role the actors whose class begins so are."""
    return [answers["roles"][node] for name, node in answers["actors"] if name.startswith(kind)]


@pytest.mark.cluster
@pytest.mark.timeout(900)
class TestAsKubeRay:
    def test_the_application_of_the_manifest_serves(self, answers: dict[str, Any]) -> None:
        assert answers["application"] == "RUNNING"
        assert answers["engine"] == "procedural"
        assert answers["clip"] == [200, "audio/wav"]

    def test_the_manifests_probes_are_answered(self, answers: dict[str, Any]) -> None:
        assert answers["head's probes"] == 200
        assert answers["worker's probes"] == [200, 200]

    def test_the_dashboard_wants_the_token(self, answers: dict[str, Any]) -> None:
        assert answers["without token"] in (401, 403)

    def test_what_is_not_a_model_stays_off_head_and_gpus(self, answers: dict[str, Any]) -> None:
        assert roles(answers, "ServeReplica:sa-ray:ingress") == ["control", "control"]
        assert roles(answers, "ServeReplica:sa-ray:dispatcher") == ["control"]
        assert roles(answers, "JobActor") == ["control"]
        assert roles(answers, "Uploader") == ["control"]
        assert "head" not in roles(answers, "ServeReplica:")

    def test_the_dashboards_metrics_are_exported(
        self, answers: dict[str, Any], autoscaling: Deployment
    ) -> None:
        """``answers`` waited for them: what is left to say is that Grafana asks for them."""
        (config_map,) = autoscaling.of_kind("ConfigMap")
        text = "".join(expressions(json.loads(config_map["data"]["sa-ray.json"])))

        assert answers
        assert set(METRIC.findall(text)) - LABELS >= EXPORTED_AT_ONCE
