"""The Pods that were kept are still those of our manifests: see tests/manifests/data/README.md."""

import pytest

from tests.manifests.agreement import SECRET_KEYS, Deployment
from tests.manifests.conftest import KUBERAY, OVERLAYS
from tests.manifests.kept_pods import Kept, digest, environment_of, kept, parted
from tests.manifests.kustomize import Manifest, render
from tests.support.operators_environment import TIMEOUTS, WORKERS

AGAIN = "`python -m tests.kubernetes.pods` writes them again, on a cluster with KubeRay"


@pytest.fixture(params=OVERLAYS)
def pair(request: pytest.FixtureRequest) -> tuple[Kept, Manifest]:
    (service,) = Deployment(render(KUBERAY / "overlays" / request.param)).of_kind("RayService")
    return kept(request.param), service


def test_what_was_kept_was_made_of_this(pair: tuple[Kept, Manifest]) -> None:
    found, service = pair

    assert found.made_of == digest(service), f"other than the Pods are made of: {AGAIN}"


def test_the_templates_are_in_the_pods(pair: tuple[Kept, Manifest]) -> None:
    found, service = pair
    cluster = service["spec"]["rayClusterConfig"]
    parts = {"headgroup": cluster["headGroupSpec"]} | {
        group["groupName"]: group for group in cluster["workerGroupSpecs"]
    }

    assert set(found.pods) == set(parts)
    for name, part in parts.items():
        differences = parted(part["template"], found.pods[name], name)
        assert not differences, f"{AGAIN}: {differences}"


def test_what_the_operator_adds_is_as_confined(pair: tuple[Kept, Manifest]) -> None:
    """Its containers that wait for the head, and its autoscaler, beside ours."""
    found, _ = pair
    for pod in found.pods.values():
        spec = pod["spec"]
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container["name"]
            if container["name"] != "autoscaler":
                mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
                assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounted


def test_secrets_come_from_secrets(pair: tuple[Kept, Manifest]) -> None:
    found, _ = pair
    for pod in found.pods.values():
        for container in pod["spec"]["containers"]:
            for entry in container.get("env", ()):
                if any(word in entry["name"] for word in ("TOKEN", "PASSWORD", "SECRET", "URL")):
                    assert "secretKeyRef" in entry["valueFrom"], entry["name"]


def test_other_suites_run_under_the_operators_variables() -> None:
    """Ray behaves by these; with Redis, as in `autoscaling`, workers have one more."""
    for pod in kept("autoscaling").pods.values():
        given = environment_of(pod, "any", dict.fromkeys(SECRET_KEYS | {"auth_token"}, "any"))
        assert given.items() >= TIMEOUTS.items()
        is_head = pod["metadata"]["labels"]["ray.io/node-type"] == "head"
        assert is_head or given.items() >= WORKERS.items()
