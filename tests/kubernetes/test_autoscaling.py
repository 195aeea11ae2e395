"""The overlay `autoscaling` on a real cluster: what it does when things come, go and break.

The tests run in order on one service, which the first makes and the last takes away.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from tests.kubernetes.conftest import Figures
from tests.kubernetes.kube import HEAD, Kube, KubectlError
from tests.kubernetes.load import Outcome, load
from tests.kubernetes.manifests import (
    AUTOSCALING,
    IMAGE,
    NEXT_IMAGE,
    Manifest,
    apply,
    ray_service,
    render,
    serve_config,
)

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1500)]

CPU = "ray.io/group=cpu"
GPU = "ray.io/group=gpu"
REDIS = "app.kubernetes.io/name=sa-ray-redis"
START_TIMEOUT_S = 600.0
CHANGE_TIMEOUT_S = 420.0
SECRET = {
    "hf-token": "none",
    "redis-password": "onlyTheSecretHasIt",
    "jobs-url": "redis://:onlyTheSecretHasIt@sa-ray-redis:6379/0",
    "aws-access-key-id": "tests",
    "aws-secret-access-key": "tests-secret",
}
KILL_GCS = """
import os, pathlib, signal
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    if (entry / "comm").read_text().strip() == "gcs_server":
        os.kill(int(entry.name), signal.SIGKILL)
"""
REACH = """
import json, socket, sys
def reached(address, port):
    try:
        socket.create_connection((address, port), 2).close()
        return True
    except OSError:
        return False
print(json.dumps([place for place in json.loads(sys.argv[1]) if reached(*place)]))
"""
PORTS = (6379, 8000, 8080, 8265, 10001, 44217, 52365)


@pytest.fixture(scope="module")
def documents(kube: Kube) -> list[Manifest]:
    return render(kube, AUTOSCALING)


@pytest.fixture(scope="module")
def applied(kube: Kube, documents: list[Manifest]) -> Iterator[float]:
    """When it was applied; all of it is deleted afterwards."""
    kube.run("create", "namespace", kube.namespace)
    literals = [f"--from-literal={name}={value}" for name, value in SECRET.items()]
    kube.run("create", "secret", "generic", "sa-ray", *literals)
    begun = time.monotonic()
    apply(kube, documents)
    yield begun
    kube.run("delete", "rayservice", "sa-ray", "--ignore-not-found", "--wait=false")
    kube.until(lambda: kube.get("rayclusters") == [], CHANGE_TIMEOUT_S)
    kube.run("delete", "namespace", kube.namespace, "--timeout=300s")


@pytest.fixture
def serving(kube: Kube, applied: float) -> None:
    """As it is between two scenarios."""
    kube.until(lambda: steady(kube), START_TIMEOUT_S)


def steady(kube: Kube) -> bool:
    one = len(kube.get("rayclusters")) == 1
    pods = kube.ready(HEAD) and len(kube.ready(CPU)) >= 2 and kube.ready(REDIS)
    return bool(one and pods and kube.is_serving())


@contextmanager
def under_load(kube: Kube, figures: Figures, scenario: str) -> Iterator[Outcome]:
    """The block's time, and what its load came to, go into the table; no job may be lost."""
    with load(kube, IMAGE, sync_per_s=2, jobs_per_s=1) as outcome:
        time.sleep(10)
        begun = time.monotonic()
        yield outcome
        took = time.monotonic() - begun
        time.sleep(10)
    figures.note(scenario, took, outcome.summary())
    assert outcome.told["ends"] == {"succeeded": outcome.told["jobs"]}, outcome.told
    assert outcome.told["heard"] == outcome.told["jobs"]


def test_from_nothing_to_audio(kube: Kube, applied: float, figures: Figures) -> None:
    kube.until(lambda: kube.ready(HEAD), START_TIMEOUT_S)
    figures.note("autoscaling: head Ready", time.monotonic() - applied, "")
    kube.until(lambda: steady(kube), START_TIMEOUT_S)
    figures.note("autoscaling: serving", time.monotonic() - applied, "")
    assert kube.pods(GPU) == []

    with load(kube, IMAGE, jobs_per_s=2) as outcome:
        kube.until(lambda: kube.ready(GPU), START_TIMEOUT_S)
        figures.note("autoscaling: first GPU node Ready", time.monotonic() - applied, "")

    assert outcome.told["ends"] == {"succeeded": outcome.told["jobs"]}
    assert outcome.told["heard"] == outcome.told["jobs"] > 0
    figures.note("jobs to the bucket, downloaded", None, outcome.summary())


def test_a_stranger_reaches_http_alone(kube: Kube, serving: None, figures: Figures) -> None:
    """Where the cluster's network enforces policies, as it has to."""
    workers = [pod["status"]["podIP"] for pod in kube.pods(CPU)]
    others = [pod["status"]["podIP"] for kind in (HEAD, GPU, REDIS) for pod in kube.pods(kind)]
    places = json.dumps([[ip, port] for ip in (*workers, *others) for port in PORTS])
    with load(kube, IMAGE):
        found = json.loads(kube.run("exec", "load", "--", "python", "-c", REACH, places))

    assert sorted(found) == sorted([ip, 8000] for ip in workers), "see cluster/README.md#network"
    figures.note("a Pod without our labels reaches", None, "port 8000 of CPU workers, nothing else")


def test_the_last_gpu_node_goes(kube: Kube, serving: None, figures: Figures) -> None:
    with figures.timed("GPU group from one to none, after the last request", ""):
        kube.until(lambda: kube.pods(GPU) == [], CHANGE_TIMEOUT_S)


def test_a_head_whose_container_dies(kube: Kube, serving: None, figures: Figures) -> None:
    before = kube.pod(HEAD)["metadata"]["name"]
    with under_load(kube, figures, "head's container killed, until a new one is Ready"):
        kube.run("exec", before, "--container=ray-head", "--", "python", "-c", KILL_GCS)
        kube.until(lambda: set(kube.ready(HEAD)) - {before}, CHANGE_TIMEOUT_S)


def test_a_head_whose_pod_is_deleted(kube: Kube, serving: None, figures: Figures) -> None:
    before = kube.pod(HEAD)["metadata"]["name"]
    with under_load(kube, figures, "head's Pod deleted, until a new one is Ready"):
        kube.run("delete", "pod", before, "--wait=false")
        kube.until(lambda: set(kube.ready(HEAD)) - {before}, CHANGE_TIMEOUT_S)


def test_a_worker_is_deleted(kube: Kube, serving: None, figures: Figures) -> None:
    victim = kube.ready(CPU)[0]
    with under_load(kube, figures, "CPU worker's Pod deleted, until another is Ready"):
        kube.run("delete", "pod", victim, "--wait=false")
        kube.until(lambda: len(set(kube.ready(CPU)) - {victim}) >= 2, CHANGE_TIMEOUT_S)


def test_a_node_is_drained(kube: Kube, serving: None, figures: Figures) -> None:
    away = {pod["spec"]["nodeName"] for pod in kube.pods(HEAD)}
    nodes = {pod["spec"]["nodeName"] for pod in kube.pods(CPU)} - away
    if not nodes:
        pytest.skip("no node with a CPU worker and without the head: NO NODE WAS DRAINED")
    node = min(nodes)
    with under_load(kube, figures, "node of a CPU worker drained, until another is Ready"):
        flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=400s")
        try:
            kube.run("drain", node, *flags, "--pod-selector", "ray.io/is-ray-node=yes")
            kube.until(lambda: len(kube.ready(CPU)) >= 2, CHANGE_TIMEOUT_S)
        finally:
            kube.run("uncordon", node)


def test_settings_change(
    kube: Kube, serving: None, documents: list[Manifest], figures: Figures
) -> None:
    changed = json.loads(json.dumps(ray_service(documents)))
    config = serve_config(changed)
    config["applications"][0]["args"]["max_queued_requests"] = 77
    changed["spec"]["serveConfigV2"] = yaml.safe_dump(config)
    cluster = kube.get("rayclusters")[0]["metadata"]["name"]
    with under_load(kube, figures, "serveConfigV2 changed, until all run anew"):
        apply(kube, [changed])
        kube.until(lambda: not kube.is_serving() or deploying(kube), 60)
        kube.until(lambda: steady(kube) and not deploying(kube), CHANGE_TIMEOUT_S)

    assert [c["metadata"]["name"] for c in kube.get("rayclusters")] == [cluster]
    apply(kube, [ray_service(documents)])


def deploying(kube: Kube) -> bool:
    applications = kube.service_status().get("activeServiceStatus", {}).get("applicationStatuses")
    return any(a.get("status") != "RUNNING" for a in (applications or {}).values())


needs_another_image = pytest.mark.skipif(
    not NEXT_IMAGE, reason="SA_RAY_TEST_NEXT_IMAGE is not set: NOT UPGRADED"
)


@needs_another_image
def test_an_upgrade(kube: Kube, serving: None, figures: Figures) -> None:
    change_image(kube, figures, "upgrade", NEXT_IMAGE)


@needs_another_image
def test_a_rollback(kube: Kube, serving: None, figures: Figures) -> None:
    change_image(kube, figures, "rollback", IMAGE)


def change_image(kube: Kube, figures: Figures, scenario: str, image: str) -> None:
    before = kube.get("rayclusters")[0]["metadata"]["name"]
    with under_load(kube, figures, f"{scenario} (image), until the first cluster is gone"):
        begun = time.monotonic()
        apply(kube, [ray_service(render(kube, AUTOSCALING, image))])
        kube.until(lambda: moved(kube, before), START_TIMEOUT_S)
        figures.note(f"{scenario}: traffic moved", time.monotonic() - begun, "")
        kube.until(lambda: gone(kube, before), START_TIMEOUT_S)


def moved(kube: Kube, before: str) -> bool:
    (service,) = kube.get("service", "sa-ray-serve-svc")
    return bool(service["spec"]["selector"]["ray.io/cluster"] != before)


def gone(kube: Kube, cluster: str) -> bool:
    names = [found["metadata"]["name"] for found in kube.get("rayclusters")]
    return cluster not in names and steady(kube)


def test_a_gpu_node_is_lost(kube: Kube, serving: None, figures: Figures) -> None:
    with under_load(kube, figures, "GPU worker's Pod deleted at once, until another is Ready"):
        kube.until(lambda: kube.ready(GPU), CHANGE_TIMEOUT_S)
        (victim,) = kube.ready(GPU)
        kube.run("delete", "pod", victim, "--grace-period=0", "--force")
        kube.until(lambda: set(kube.ready(GPU)) - {victim}, CHANGE_TIMEOUT_S)


def test_redis_is_restarted(kube: Kube, serving: None, figures: Figures) -> None:
    """The head ends with its Redis, and another takes over."""
    with under_load(kube, figures, "Redis restarted, until it is Ready"):
        kube.run("delete", "pod", "--selector", REDIS)
        kube.until(lambda: kube.ready(REDIS), CHANGE_TIMEOUT_S)


def test_redis_is_late(kube: Kube, serving: None, figures: Figures) -> None:
    """A head that starts without Redis waits for it, and comes again if that takes too long."""
    kube.run("scale", "statefulset", "sa-ray-redis", "--replicas=0")
    kube.until(lambda: kube.get("pods", "--selector", REDIS) == [], CHANGE_TIMEOUT_S)
    kube.run("delete", "pod", "--selector", HEAD, "--grace-period=5")
    time.sleep(30)
    kube.run("scale", "statefulset", "sa-ray-redis", "--replicas=1")

    with figures.timed("Redis 30 s late for a head, until both are Ready", ""):
        kube.until(lambda: steady(kube), CHANGE_TIMEOUT_S)


def test_nothing_is_left(kube: Kube, serving: None, figures: Figures) -> None:
    with figures.timed("deleted, until Pods, Services and Ray's state in Redis are gone", ""):
        kube.run("delete", "rayservice", "sa-ray", "--wait=false")
        kube.until(lambda: kube.get("rayservices,rayclusters") == [], CHANGE_TIMEOUT_S)
        kube.until(lambda: kube.get("pods", "--selector=ray.io/cluster") == [], CHANGE_TIMEOUT_S)

    assert [s["metadata"]["name"] for s in kube.get("services", "--selector=ray.io/cluster")] == []
    ask = "redis-cli --raw keys 'RAY*'"
    redis = kube.pod(REDIS)["metadata"]["name"]
    assert kube.run("exec", redis, "--", "sh", "-c", ask).split() == []
    with pytest.raises(KubectlError):
        kube.run("get", "service", "sa-ray-serve-svc")
