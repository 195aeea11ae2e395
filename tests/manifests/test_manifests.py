"""The manifests render, are what Kubernetes and KubeRay accept, and agree with the application."""

import copy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.manifests import agreement, operator_rules
from tests.manifests.agreement import Deployment
from tests.manifests.conftest import KUBERAY, OVERLAYS
from tests.manifests.kustomize import KustomizeError, Manifest, render
from tests.manifests.schemas import CustomResources, kubernetes_problems, pod_monitor_problems


def problems(deployment: Deployment, custom_resources: CustomResources | None) -> list[str]:
    """Everything that is wrong with the manifests, by every check there is."""
    found = []
    for manifest in deployment.manifests:
        match manifest["kind"]:
            case "RayService":
                refused = custom_resources.problems(manifest) if custom_resources else []
                # The other checks build on the schema.
                found += refused or operator_rules.problems(manifest)
            case "PodMonitor":
                found += pod_monitor_problems(manifest)
            case "PrometheusRule":
                pass  # Prometheus itself reads the rules: test_alerts
            case _:
                found += kubernetes_problems(manifest)
    return found or agreement.problems(deployment)


def test_overlays_agree_with_the_application(deployment: Deployment) -> None:
    assert problems(deployment, custom_resources=None) == []


def test_an_overlay_of_ones_own_agrees_with_the_application(of_ones_own: Deployment) -> None:
    assert problems(of_ones_own, custom_resources=None) == []
    assert of_ones_own.named("PodMonitor") == {"sa-ray"}


def test_overlays_need_no_kinds_but_those_of_kubernetes_and_kuberay(
    deployment: Deployment,
) -> None:
    """Where a kind is not known, applying fails."""
    assert not deployment.of_kind("PodMonitor") + deployment.of_kind("PrometheusRule")


def test_overlays_are_what_kuberay_accepts(
    deployment: Deployment, custom_resources: CustomResources
) -> None:
    assert problems(deployment, custom_resources) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_renders_the_same(overlay: str) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: NOT COMPARED with it")

    folder = KUBERAY / "overlays" / overlay
    printed = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, check=True)
    theirs = list(yaml.safe_load_all(printed.stdout))

    assert by_name(render(folder)) == by_name(theirs)


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def service(deployment: Deployment) -> Manifest:
    return deployment.service["spec"]


def cluster(deployment: Deployment) -> Manifest:
    return deployment.cluster


def gpu(deployment: Deployment) -> Manifest:
    return deployment.cluster["workerGroupSpecs"][1]  # type: ignore[no-any-return]


def head(deployment: Deployment) -> Manifest:
    return deployment.cluster["headGroupSpec"]["template"]["spec"]["containers"][0]  # type: ignore[no-any-return]


def no_serve_port(deployment: Deployment) -> None:
    ports = head(deployment)["ports"]
    ports[:] = [port for port in ports if port["name"] != "serve"]


def serve(old: str, new: str) -> Callable[[Deployment], None]:
    def change(deployment: Deployment) -> None:
        text = service(deployment)["serveConfigV2"]
        assert old in text
        service(deployment)["serveConfigV2"] = text.replace(old, new)

    return change


def no_cpu_group(deployment: Deployment) -> None:
    del cluster(deployment)["workerGroupSpecs"][0]


def no_gpu_group(deployment: Deployment) -> None:
    del cluster(deployment)["workerGroupSpecs"][1]


def unknown_field_of_a_policy(deployment: Deployment) -> None:
    deployment.of_kind("NetworkPolicy")[0]["spec"]["ingres"] = []


def wrong_type_in_a_budget(deployment: Deployment) -> None:
    deployment.of_kind("PodDisruptionBudget")[0]["spec"]["minAvailable"] = [1]


def no_claim(deployment: Deployment) -> None:
    deployment.manifests.remove(deployment.of_kind("PersistentVolumeClaim")[0])


NEEDS_CRD = {
    "unknown field": (
        lambda d: cluster(d).update(rayVersions="2.60.0"),
        "'rayVersions' was unexpected",
    ),
    "unknown field of a Pod": (
        lambda d: gpu(d)["template"]["spec"].update(toleration=[]),
        "'toleration' was unexpected",
    ),
    "wrong type": (
        lambda d: gpu(d).update(minReplicas="0"),
        "'0' is not of type 'integer'",
    ),
    "a number for a start parameter": (
        lambda d: cluster(d)["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        "0 is not of type 'string'",
    ),
    "group without a name": (lambda d: gpu(d).pop("groupName"), "'groupName' is a required"),
    "group without a template": (lambda d: gpu(d).pop("template"), "'template' is a required"),
    "unknown autoscaler": (
        lambda d: cluster(d)["autoscalerOptions"].update(version="v3"),
        "'v3' is not one of",
    ),
    "port twice": (
        lambda d: head(d)["ports"].append({"name": "again", "containerPort": 8080}),
        "more than once",
    ),
}

BROKEN = {
    "no port for the service": (no_serve_port, "a port named serve"),
    "name too long": (
        lambda d: d.service["metadata"].update(name="s" * 48),
        "DNS-1035",
    ),
    "password in the head's environment": (
        lambda d: head(d)["env"].append({"name": "REDIS_PASSWORD", "value": "x"}),
        "redisPassword",
    ),
    "resources twice": (
        lambda d: gpu(d).update(rayStartParams={"num-cpus": "1"}, resources={"CPU": "1"}),
        "both rayStartParams and resources",
    ),
    "idle timeout without autoscaler v2": (
        lambda d: cluster(d)["autoscalerOptions"].update(version="v1"),
        "idleTimeoutSeconds needs autoscaler v2",
    ),
    "restart policy": (
        lambda d: gpu(d)["template"]["spec"].update(restartPolicy="Always"),
        "restartPolicy Never",
    ),
    "feature behind a gate": (lambda d: cluster(d).update(networkPolicy={}), "feature gate"),
    "bounds the wrong way round": (lambda d: gpu(d).update(minReplicas=9), "is greater than"),
    "upgrade without its options": (
        lambda d: service(d)["upgradeStrategy"].update(type="NewClusterWithIncrementalUpgrade"),
        "needs clusterUpgradeOptions",
    ),
    "token with an old Ray": (lambda d: cluster(d).update(rayVersion="2.51.0"), "2.52.0 or later"),
    "another Ray": (lambda d: cluster(d).update(rayVersion="2.59.0"), "rayVersion 2.59.0 is not"),
    "another image": (lambda d: head(d).update(image="sa-ray:0.0.9-cuda"), "image tag 0.0.9"),
    "the image without the model": (
        lambda d: head(d).update(image="sa-ray:0.1.0-cpu"),
        "does not go with the images",
    ),
    "another import path": (serve("sa_ray.app:build", "sa_ray:app"), "serve_config.yaml"),
    "unknown argument": (serve("engine:", "engin:"), "Unknown setting engin"),
    "unknown key of Serve": (serve("route_prefix: /", "routes: /"), "['routes'] not known"),
    "unknown variant": (serve("medium: {", "large: {"), "variants.large"),
    "unknown deployment": (serve("name: dispatcher", "name: dispatch"), "do not exist"),
    "malformed argument": (serve("gpu: 1.0", "gpu: -1"), "greater than 0"),
    "wrong type for Serve": (
        serve("max_replicas_per_node: 1", "max_replicas_per_node: x"),
        "serveConfigV2",
    ),
    "more GPUs than there are": (serve("max_replicas: 2", "max_replicas: 3"), "5.0 GPUs at most"),
    "a variant that fits no node": (serve("gpu: 1.0", "gpu: 2.0"), "no group has room for medium"),
    "no group for the models": (no_gpu_group, "no group has room for"),
    "no group for the ingress": (no_cpu_group, "0 nodes are there for 2 replicas of ingress"),
    "one node for two ingresses": (
        lambda d: cluster(d)["workerGroupSpecs"][0].update(minReplicas=1),
        "1 nodes are there for 2 replicas of ingress",
    ),
    "more ingresses than there are nodes for": (
        serve("max_ingress_replicas: 4", "max_ingress_replicas: 5"),
        "4 nodes are there for 5 replicas of ingress",
    ),
    "no volume": (lambda d: gpu(d)["template"]["spec"]["volumes"].pop(), "no volume hf-cache"),
    "no claim": (no_claim, "no claim sa-ray-hf-cache"),
    "unknown secret": (
        lambda d: head(d)["env"][2]["valueFrom"]["secretKeyRef"].update(key="token"),
        "does not say how to make the secret",
    ),
    "killed in the middle of a clip": (
        lambda d: gpu(d)["template"]["spec"].update(terminationGracePeriodSeconds=30),
        "killed before it has drained",
    ),
    "the old cluster gone at once": (
        lambda d: service(d).pop("rayClusterDeletionDelaySeconds"),
        "an old cluster is deleted",
    ),
    "Redis left as it is": (
        lambda d: d.service["metadata"].pop("annotations"),
        "gives up cleaning Redis",
    ),
    "unknown field of a policy": (unknown_field_of_a_policy, "'ingres' was unexpected"),
    "wrong type in a budget": (wrong_type_in_a_budget, "[1] is not valid"),
    "policy that selects nothing": (
        lambda d: d.of_kind("NetworkPolicy")[0]["spec"]["podSelector"].update(
            matchLabels={"app": "sa-ray"}
        ),
        "selects nothing",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_manifests_are_refused(case: str, autoscaling: Deployment) -> None:
    assert_refused(autoscaling, BROKEN[case], custom_resources=None)


@pytest.mark.parametrize("case", NEEDS_CRD)
def test_manifests_that_kuberay_refuses_are_refused(
    case: str, autoscaling: Deployment, custom_resources: CustomResources
) -> None:
    assert_refused(autoscaling, NEEDS_CRD[case], custom_resources)


def assert_refused(
    deployment: Deployment,
    case: tuple[Callable[[Deployment], object], str],
    custom_resources: CustomResources | None,
) -> None:
    change, message = case
    broken = Deployment(copy.deepcopy(deployment.manifests))
    change(broken)

    found = problems(broken, custom_resources)

    assert any(message in problem for problem in found), found


def test_a_broken_monitor_is_refused(of_ones_own: Deployment) -> None:
    case = (
        lambda d: d.of_kind("PodMonitor")[0]["spec"].update(endpoints=[]),
        "'endpoints' was unexpected",
    )
    assert_refused(of_ones_own, case, custom_resources=None)


KUSTOMIZATION = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [map.yaml]
{more}
"""

CONFIG_MAP = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: y}}"
PATCH = "patches: [{target: {kind: ConfigMap, name: %s}, path: patch.yaml}]"


@pytest.mark.parametrize(
    ("more", "patch", "message"),
    [
        ("namePrefix: x-", "[]", "'namePrefix'"),
        (PATCH % "b", "[]", "does not exist"),
        (PATCH % "a", "[{op: replace, path: /data/z, value: 1}]", "patch.yaml"),
        (PATCH % "a", "[{op: remove, path: /data/z}]", "patch.yaml"),
        (PATCH % "a", "[{op: test, path: /data/x, value: z}]", "patch.yaml"),
    ],
    ids=["unknown field", "no target", "nothing to replace", "nothing to remove", "failed test"],
)
def test_broken_kustomizations_are_refused(
    more: str, patch: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "kustomization.yaml").write_text(KUSTOMIZATION.format(more=more))
    (tmp_path / "map.yaml").write_text(CONFIG_MAP)
    (tmp_path / "patch.yaml").write_text(patch)

    with pytest.raises(KustomizeError, match=message):
        render(tmp_path)
