"""Writes the Pods that the operator makes of our overlays, as data for `tests/manifests`:

    KUBECONFIG=... python -m tests.kubernetes.pods

The cluster needs KubeRay and nothing else, no image either: the Pods stay Pending.
"""

import json
import sys
from pathlib import Path

import yaml

from tests.kubernetes.kube import Kube
from tests.kubernetes.manifests import ROOT, Manifest, ray_service
from tests.manifests.kept_pods import CLUSTER, DATA, digest, named
from tests.manifests.kustomize import render

NOBODY = "sa-ray-tests-nobody"
"""A scheduler that does not exist."""
TIMEOUT_S = 60.0
SET_BY_CLUSTER = {
    *("creationTimestamp", "generation", "uid", "resourceVersion", "managedFields"),
    *("ownerReferences", "generateName", "annotations"),
}
DEFAULTED = {"nodeName", "schedulerName", "serviceAccount", "priority", "preemptionPolicy"}


def make(kube: Kube, overlay: Path) -> None:
    documents = render(overlay)
    service = ray_service(documents)
    marked = digest(service)
    cluster = service["spec"]["rayClusterConfig"]
    groups = cluster["workerGroupSpecs"]
    for group in groups:
        # One of each is enough, and GPU groups may begin with none.
        group["replicas"] = group["minReplicas"] = 1
    for part in (cluster["headGroupSpec"], *groups):
        part["template"]["spec"]["schedulerName"] = NOBODY
    wanted = [d for d in documents if d["kind"] in ("Namespace", "PriorityClass", "RayService")]
    kube.run("apply", "--filename=-", stdin=yaml.safe_dump_all(wanted))
    try:
        kube.until(lambda: len(kube.pods()) == 1 + len(groups), TIMEOUT_S)
        pods = sorted((prune(pod) for pod in kube.pods()), key=named)
    finally:
        kube.run("delete", "rayservice", "sa-ray", "--wait=false")
        kube.run("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
        kube.run("delete", "namespace", kube.namespace, "--timeout=120s")
    DATA.mkdir(exist_ok=True)
    (DATA / f"{overlay.name}.yaml").write_text(
        "# Made by tests/kubernetes/pods.py: Pods as KubeRay has them made of this overlay.\n"
        + yaml.safe_dump({"made of": marked, "pods": pods}, sort_keys=False, width=100)
    )


def prune(pod: Manifest) -> Manifest:
    """Without what differs from one run to the next."""
    meta = {k: v for k, v in pod["metadata"].items() if k not in SET_BY_CLUSTER}
    spec = {k: v for k, v in pod["spec"].items() if k not in DEFAULTED}
    pruned = json.dumps({"metadata": meta, "spec": spec})
    # `sa-ray-x7k2p`, and Pods `sa-ray-x7k2p-head-4bn2c`.
    name = meta["labels"]["ray.io/cluster"]
    pruned = pruned.replace(meta["name"], f"{name}-{meta['labels']['ray.io/group']}")
    result: Manifest = json.loads(pruned.replace(name, CLUSTER))
    return result


def main() -> None:
    overlays = sorted((ROOT / "cluster" / "kuberay" / "overlays").iterdir())
    for overlay in overlays:
        if not sys.argv[1:] or overlay.name in sys.argv[1:]:
            make(Kube(), overlay)


if __name__ == "__main__":
    main()
