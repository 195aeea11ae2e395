"""Who reaches what, and what a container may do."""

import itertools
from typing import Any

import pytest

from tests.manifests.agreement import GPU, Deployment
from tests.manifests.kustomize import Manifest

PORTS = {"http": 8000, "dashboard": 8265, "gcs": 6379, "client": 10001, "metrics": 8080}
STRANGER = {"app": "stranger"}
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
SA_RAY = {"app.kubernetes.io/name": "sa-ray"}


def open_ports(
    deployment: Deployment, pod: dict[str, str], caller: dict[str, str], *, same_namespace: bool
) -> set[int] | None:
    """The ports of ``pod`` that ``caller`` reaches, by NetworkPolicy; None: all of them."""
    opened: set[int] = set()
    policies = [
        policy["spec"]
        for policy in deployment.of_kind("NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= pod.items()
    ]
    for rule in (rule for policy in policies for rule in policy["ingress"]):
        if any(admits(peer, caller, same_namespace) for peer in rule.get("from", [{}])):
            if "ports" not in rule:
                return None
            opened |= {port["port"] for port in rule["ports"]}
    return opened if policies else None


def admits(peer: Manifest, caller: dict[str, str], same_namespace: bool) -> bool:
    assert peer.get("namespaceSelector", {}) == {}  # any namespace
    namespace = same_namespace or not peer or "namespaceSelector" in peer
    labels: Any = peer.get("podSelector", {}).get("matchLabels", {})
    return namespace and labels.items() <= caller.items()


def test_strangers_reach_http_alone(deployment: Deployment) -> None:
    for pod in deployment.ray_pods():
        labels = pod["metadata"]["labels"]
        for same_namespace in (True, False):
            reached = open_ports(deployment, labels, STRANGER, same_namespace=same_namespace)
            assert reached == {PORTS["http"]}
        assert open_ports(deployment, labels, SA_RAY, same_namespace=True) is None
        assert open_ports(deployment, labels, SA_RAY, same_namespace=False) == {PORTS["http"]}


def test_the_operator_reaches_the_dashboard(deployment: Deployment) -> None:
    head, *workers = (pod["metadata"]["labels"] for pod in deployment.ray_pods())
    both = {PORTS["http"], PORTS["dashboard"]}

    assert open_ports(deployment, head, OPERATOR, same_namespace=False) == both
    for worker in workers:
        reached = open_ports(deployment, worker, OPERATOR, same_namespace=False)
        assert reached == {PORTS["http"]}


def test_prometheus_reaches_the_metrics(autoscaling: Deployment) -> None:
    for pod in autoscaling.ray_pods():
        reached = open_ports(
            autoscaling, pod["metadata"]["labels"], PROMETHEUS, same_namespace=False
        )
        assert reached == {PORTS["http"], PORTS["metrics"]}


def test_redis_is_for_the_cluster_alone(autoscaling: Deployment) -> None:
    (owner,) = autoscaling.of_kind("StatefulSet")
    redis = owner["spec"]["template"]["metadata"]["labels"]

    assert open_ports(autoscaling, redis, STRANGER, same_namespace=True) == set()
    assert open_ports(autoscaling, redis, SA_RAY, same_namespace=False) == set()
    assert open_ports(autoscaling, redis, SA_RAY, same_namespace=True) == {6379}


def test_containers_are_confined(deployment: Deployment) -> None:
    for pod in deployment.pods():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            confined = container["securityContext"]
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["capabilities"] == {"drop": ["ALL"]}


def test_containers_are_bounded_and_watched(deployment: Deployment) -> None:
    """Ray counts what the limits say, so Kubernetes has to set the same aside."""
    for pod in deployment.pods():
        for container in pod["spec"]["containers"]:
            resources = container["resources"]
            assert resources["requests"] == resources["limits"]
            assert {"cpu", "memory"} <= set(resources["limits"])
            assert {"livenessProbe", "readinessProbe"} <= set(container)
            assert "startupProbe" not in container
            assert container["imagePullPolicy"] == "IfNotPresent"
            assert container["image"].partition(":")[2] not in ("", "latest")


def test_the_head_does_no_work(deployment: Deployment) -> None:
    assert deployment.cluster["headGroupSpec"]["rayStartParams"] == {
        "num-cpus": "0",
        "num-gpus": "0",
    }
    assert deployment.service["spec"]["excludeHeadPodFromServeSvc"] is True
    assert deployment.cluster["authOptions"] == {"mode": "token"}


def test_gpu_workers_tolerate_gpu_nodes_and_keep_the_weights(deployment: Deployment) -> None:
    for pod in deployment.ray_pods():
        (container,) = pod["spec"]["containers"]
        if GPU not in container["resources"]["limits"]:
            continue
        assert [taint["key"] for taint in pod["spec"]["tolerations"]] == [GPU]
        (home,) = (entry["value"] for entry in container["env"] if entry["name"] == "HF_HOME")
        (cache,) = (m["name"] for m in container["volumeMounts"] if m["mountPath"] == home)
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert "persistentVolumeClaim" in volumes[cache]


def test_every_node_has_the_same_settings(deployment: Deployment) -> None:
    """The application is built on any of them."""
    first, *others = (pod["spec"]["containers"][0]["env"] for pod in deployment.ray_pods())
    assert all(env == first for env in others)


def test_secrets_are_references(deployment: Deployment) -> None:
    secret = ("TOKEN", "SECRET", "PASSWORD", "KEY", "JOBS_URL", "REDISCLI_AUTH")
    for pod in deployment.pods():
        for entry in pod["spec"]["containers"][0]["env"]:
            if any(word in entry["name"] for word in secret):
                assert set(entry["valueFrom"]) == {"secretKeyRef"}


def test_disruption_budgets_hold_for_pods_of_custom_owners(deployment: Deployment) -> None:
    """RayCluster has no scale subresource: only a number for `minAvailable` works."""
    for budget in deployment.of_kind("PodDisruptionBudget"):
        assert set(budget["spec"]) == {"minAvailable", "selector"}
        assert isinstance(budget["spec"]["minAvailable"], int)


def test_redis_refuses_what_it_has_no_room_for(autoscaling: Deployment) -> None:
    (redis,) = autoscaling.of_kind("StatefulSet")
    (container,) = redis["spec"]["template"]["spec"]["containers"]
    given = dict(itertools.pairwise(container["command"]))

    assert given["--maxmemory-policy"] == "noeviction"
    limit = container["resources"]["limits"]["memory"]
    assert (given["--maxmemory"], limit) == ("1200mb", "2Gi")


@pytest.mark.parametrize("field", ["replicas", "minReplicas"])
def test_gpus_are_let_go_when_idle(autoscaling: Deployment, field: str) -> None:
    cluster = autoscaling.cluster
    (gpu,) = (group for group in cluster["workerGroupSpecs"] if group["groupName"] == "gpu")

    assert gpu[field] == 0
    assert gpu["idleTimeoutSeconds"] > 0
    assert cluster["autoscalerOptions"]["version"] == "v2"


def test_clusters_of_an_upgrade_keep_their_state_apart(autoscaling: Deployment) -> None:
    options = autoscaling.cluster["gcsFaultToleranceOptions"]

    assert "externalStorageNamespace" not in options
    assert set(options["redisPassword"]["valueFrom"]) == {"secretKeyRef"}
