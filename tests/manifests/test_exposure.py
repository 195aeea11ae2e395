"""What a container may do, and what it is given."""

import re
from collections.abc import Iterator

import pytest
from packaging.version import Version
from ray.autoscaler._private.constants import AUTOSCALER_METRIC_PORT
from ray.autoscaler._private.kuberay.node_provider import (
    IN_CLUSTER_CA_CERT_PATH,
    IN_CLUSTER_TOKEN_PATH,
)

from tests.manifests.agreement import GPU, OPERATORS_LABELS, Deployment
from tests.manifests.kustomize import Manifest, containers

OURS = ("registry.example.com/sa-ray:", "sa-ray:")
BY_DIGEST = re.compile(r"[a-z0-9./-]+:[\w.-]+@sha256:[0-9a-f]{64}")
FIXED = {
    (version.major, version.minor): version
    for version in map(Version, ("6.2.20", "7.2.11", "7.4.6", "8.0.4", "8.2.2"))
}
"""Redis with the fix of CVE-2025-49844, and so with that of CVE-2025-21605."""


def confined(deployment: Deployment) -> Iterator[tuple[Manifest, Manifest]]:
    """Each container with its Pod's spec; the autoscaler's, which KubeRay makes, among them."""
    for pod in deployment.pods():
        for container in containers(pod):
            yield pod["spec"], container
    if "autoscalerOptions" in deployment.cluster:
        head, *_ = deployment.pods()
        yield head["spec"], deployment.cluster["autoscalerOptions"]


def test_containers_are_confined(deployment: Deployment) -> None:
    for spec, container in confined(deployment):
        pod, own = spec["securityContext"], container["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert min(pod["runAsUser"], pod["runAsGroup"]) > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
        for volume in spec.get("volumes", ()):
            assert set(volume) - {"name"} <= {"emptyDir", "persistentVolumeClaim", "projected"}
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]


def test_the_namespace_refuses_what_is_not_confined(deployment: Deployment) -> None:
    (namespace,) = deployment.of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_autoscaler_alone_may_ask_the_api_server(deployment: Deployment) -> None:
    for pod in deployment.pods():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not [m for c in containers(pod) for m in c["volumeMounts"] if "token" in m["name"]]
    if options := deployment.cluster.get("autoscalerOptions"):
        head, *_ = deployment.pods()
        (volume,) = (v for v in head["spec"]["volumes"] if "projected" in v)
        (mount,) = (m for m in options["volumeMounts"] if m["name"] == volume["name"])
        # Where Ray looks for them.
        files = [source_files(source) for source in volume["projected"]["sources"]]
        paths = {f"{mount['mountPath']}/{name}" for names in files for name in names}
        assert paths == {IN_CLUSTER_TOKEN_PATH, IN_CLUSTER_CA_CERT_PATH}
        assert mount["readOnly"] is True
        mounted = {m["mountPath"]: m["name"] for m in options["volumeMounts"]}
        assert mounted.items() >= {"/tmp": "tmp", "/home/ray": "home"}.items()  # noqa: S108


def source_files(source: Manifest) -> list[str]:
    (kind,) = source
    entries = [source[kind]] if kind == "serviceAccountToken" else source[kind]["items"]
    return [entry["path"] for entry in entries]


def test_images_are_named_by_digest(deployment: Deployment) -> None:
    """But for ours, which has one once it is built: see "The image" in cluster/README.md."""
    for _, container in confined(deployment):
        # Without one, the autoscaler has the head's.
        if image := container.get("image"):
            assert image.startswith(OURS) or BY_DIGEST.fullmatch(image), image


@pytest.mark.parametrize("version", ["8.2.1", "8.0.3", "7.4.5", "7.2.10", "6.2.19", "7.0.15"])
def test_versions_of_redis_with_known_holes_are_told(version: str) -> None:
    assert not has_fixes(Version(version))


def test_redis_has_the_fixes_that_there_are(autoscaling: Deployment) -> None:
    (redis,) = autoscaling.of_kind("StatefulSet")
    (container,) = redis["spec"]["template"]["spec"]["containers"]
    version = re.match(r"redis:(\d+\.\d+\.\d+)-", container["image"])
    assert version
    assert has_fixes(Version(version[1]))


def has_fixes(version: Version) -> bool:
    fixed = FIXED.get((version.major, version.minor))
    return version >= fixed if fixed else version > max(FIXED.values())


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
            assert ":" in container["image"]
            assert ":latest" not in container["image"]


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


def test_a_head_that_hangs_is_stopped_within_two_minutes(deployment: Deployment) -> None:
    """Its drain, which is longer, is for one that is told to stop."""
    head, *_ = deployment.ray_pods()
    (container,) = head["spec"]["containers"]
    probe = container["livenessProbe"]

    noticed = (probe["failureThreshold"] + 1) * probe["periodSeconds"] + probe["timeoutSeconds"]
    assert noticed + probe["terminationGracePeriodSeconds"] < 120


def test_services_of_kuberay_find_the_head(deployment: Deployment) -> None:
    """`sa-ray-head-svc` selects by labels that a Pod may replace."""
    head, *_ = deployment.ray_pods()
    assert OPERATORS_LABELS.items() <= head["metadata"]["labels"].items()


def test_prometheus_asks_for_ports_that_there_are(of_ones_own: Deployment) -> None:
    (monitor,) = of_ones_own.of_kind("PodMonitor")
    (policy,) = (
        each
        for each in of_ones_own.of_kind("NetworkPolicy")
        if each["metadata"]["name"] == "sa-ray-metrics"
    )
    head, *_ = of_ones_own.ray_pods()
    ports = {p["name"]: p["containerPort"] for p in head["spec"]["containers"][0]["ports"]}
    asked = {ports[each["port"]] for each in monitor["spec"]["podMetricsEndpoints"]}

    assert AUTOSCALER_METRIC_PORT in asked
    assert asked == {port["port"] for port in policy["spec"]["ingress"][0]["ports"]}
