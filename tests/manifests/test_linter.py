"""What kube-score, a linter of manifests, says of each overlay.

It knows the kinds of Kubernetes alone, so KubeRay's Pods are shown to it as Pods.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any

import pytest
import yaml

from tests.manifests.agreement import Deployment
from tests.manifests.kustomize import Manifest

OWN_KINDS = {"RayService", "PodMonitor", "PrometheusRule"}
ACCEPTED = {
    "container-image-pull-policy": "images are named by digest or version: what is there is right",
    "container-ephemeral-storage-request-and-limit": "emptyDirs have limits, and nothing else is "
    "written to: root file systems are read-only",
    "pod-probes-identical": "the head's: they ask the same, and differ in patience",
    "container-security-context-user-group-id": "the users that the images have; none is root",
}
"""The checks that are left out, and why."""
FINE = 10
OPTIONAL = ("container-seccomp-profile", "container-ports-check")


@pytest.fixture(scope="module")
def linter() -> str:
    found = shutil.which(os.environ.get("KUBE_SCORE", "kube-score"))
    if not found:
        pytest.skip("no kube-score (`.ci/kube-score FOLDER` builds it): NOT LINTED")
    return found


def as_kubernetes_has_them(deployment: Deployment) -> list[Manifest]:
    pods = []
    for pod in deployment.ray_pods():
        labels = pod["metadata"]["labels"]
        name = f"sa-ray-{labels['ray.io/group']}"
        pods.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "sa-ray", "labels": labels},
                "spec": pod["spec"],
            }
        )
    return [*(m for m in deployment.manifests if m["kind"] not in OWN_KINDS), *pods]


def lint(linter: str, manifests: list[Manifest], accepted: Iterable[str] = ACCEPTED) -> list[str]:
    """What the linter finds, but for what is accepted."""
    options = [f"--ignore-test={check}" for check in accepted]
    options += [f"--enable-optional-test={check}" for check in OPTIONAL]
    done = subprocess.run(
        [linter, "score", "--output-format=json", *options, "-"],
        input=yaml.safe_dump_all(manifests),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    scored: list[dict[str, Any]] = json.loads(done.stdout)
    assert scored
    return [
        f"{each['object_name']}: {check['check']['id']}: {comment['path']}: {comment['summary']}"
        for each in scored
        for check in each["checks"]
        for comment in check["comments"] or ()
        if not check["skipped"] and check["grade"] < FINE
    ]


def test_the_linter_finds_nothing(linter: str, deployment: Deployment) -> None:
    assert lint(linter, as_kubernetes_has_them(deployment)) == []


def test_the_linter_sees_into_rays_pods(linter: str, autoscaling: Deployment) -> None:
    manifests = as_kubernetes_has_them(autoscaling)
    (pod,) = (m for m in manifests if m["metadata"]["name"] == "sa-ray-gpu")
    container = dict(pod["spec"]["containers"][0])
    container.pop("securityContext")
    container["image"] = "sa-ray:latest"
    pod["spec"] = pod["spec"] | {"containers": [container]}

    found = " ".join(lint(linter, manifests))

    assert "container-image-tag" in found
    assert "container-security-context-readonlyrootfilesystem" in found


def test_what_is_accepted_is_still_found(linter: str, autoscaling: Deployment) -> None:
    """A reason that is no longer wanted is to go."""
    manifests = as_kubernetes_has_them(autoscaling)
    found = " ".join(lint(linter, manifests, accepted=()))

    assert [check for check in ACCEPTED if check not in found] == []
