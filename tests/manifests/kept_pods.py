"""The Pods that KubeRay made of our overlays, kept as `data/OVERLAY.yaml`."""

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.manifests.kustomize import Manifest

DATA = Path(__file__).parent / "data"
GROUP = "ray.io/group"
CLUSTER = "sa-ray-cluster"
"""What their cluster is called, in place of a name that KubeRay draws."""
HEAD = f"{CLUSTER}-head-svc.sa-ray.svc.cluster.local"


@dataclass(frozen=True)
class Kept:
    """What was kept of one overlay."""

    made_of: str
    pods: dict[str, Manifest]
    """By group; the head's is `headgroup`."""


def kept(overlay: str) -> Kept:
    data = yaml.safe_load((DATA / f"{overlay}.yaml").read_text())
    return Kept(data["made of"], {named(pod): pod for pod in data["pods"]})


def named(pod: Manifest) -> str:
    name: str = pod["metadata"]["labels"][GROUP]
    return name


def container_of(pod: Manifest) -> Any:
    """Ray's, the first."""
    return pod["spec"]["containers"][0]


def command_of(pod: Manifest) -> list[str]:
    container = container_of(pod)
    return [*container["command"], *container["args"]]


def environment_of(pod: Manifest, name: str, secrets: dict[str, str]) -> dict[str, str]:
    """The variables of Ray's container, as a kubelet resolves them for a Pod of that ``name``;
    ``secrets`` by their keys."""
    return {
        entry["name"]: value
        for entry in container_of(pod)["env"]
        if (value := _value(entry, pod, name, secrets)) is not None
    }


def _value(entry: Manifest, pod: Manifest, name: str, secrets: dict[str, str]) -> str | None:
    if "value" in entry:
        return str(entry["value"])
    source = entry["valueFrom"]
    if reference := source.get("secretKeyRef"):
        if reference.get("optional"):
            return secrets.get(reference["key"])
        return secrets[reference["key"]]
    path = source["fieldRef"]["fieldPath"]
    if label := re.fullmatch(r"metadata\.labels\['(.*)'\]", path):
        return str(pod["metadata"]["labels"][label[1]])
    fields: dict[str, str] = {
        "metadata.name": name,
        "metadata.namespace": pod["metadata"]["namespace"],
    }
    return fields[path]


def digest(service: Manifest) -> str:
    """Of all in a RayService that decides how Pods are made, but for their templates."""
    cluster = copy.deepcopy(service["spec"]["rayClusterConfig"])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        del group["template"]
        for name in ("replicas", "minReplicas", "maxReplicas"):
            group.pop(name, None)
    return hashlib.sha256(json.dumps(cluster, sort_keys=True).encode()).hexdigest()


def parted(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Where ``found`` lacks what is ``wanted``, or has it otherwise; more may be there."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            entry
            for key, value in wanted.items()
            for entry in parted(value, found.get(key), f"{place}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list):
        by_name = {entry["name"]: entry for entry in found if _has_name(entry)}
        if all(_has_name(entry) and entry["name"] in by_name for entry in wanted):
            pairs = [(entry, by_name[entry["name"]]) for entry in wanted]
            return [line for a, b in pairs for line in parted(a, b, f"{place}[{a['name']}]")]
        if all(any(not parted(entry, other) for other in found) for entry in wanted):
            return []
    return [] if wanted == found else [f"{place}: {wanted} is {found}"]


def _has_name(entry: Any) -> bool:
    return isinstance(entry, dict) and "name" in entry
