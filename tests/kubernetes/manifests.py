"""Overlays as `kubectl` renders them, with the images of the cluster under test."""

import os
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.kube import Kube

ROOT = Path(__file__).parents[2]
KIND_CPU = ROOT / "cluster" / "kuberay" / "overlays" / "kind-cpu"
AUTOSCALING = Path(__file__).parent / "overlays" / "autoscaling"
IMAGE = os.environ.get("SA_RAY_TEST_IMAGE", "sa-ray:0.1.0-cpu")
NEXT_IMAGE = os.environ.get("SA_RAY_TEST_NEXT_IMAGE", "")
"""The same, as another release; unset: the upgrade is not shown."""
OTHERS = {
    "redis": os.environ.get("SA_RAY_TEST_REDIS_IMAGE"),
    "chrislusf/seaweedfs": os.environ.get("SA_RAY_TEST_S3_IMAGE"),
}
Manifest = dict[str, Any]


def render(kube: Kube, folder: Path, image: str = IMAGE) -> list[Manifest]:
    """The manifests of ``folder``, but for those whose kind the cluster does not know."""
    known = set(kube.run("api-resources", "--no-headers", "--output=name").split())
    documents: list[Manifest] = [
        document
        for document in yaml.safe_load_all(kube.run("kustomize", str(folder)))
        if document["kind"] not in ("PodMonitor", "PrometheusRule")
        or f"{document['kind'].lower()}s.monitoring.coreos.com" in known
    ]
    for document in documents:
        _set_images(document, image)
    return documents


def apply(kube: Kube, documents: list[Manifest]) -> None:
    kube.run("apply", "--filename=-", stdin=yaml.safe_dump_all(documents))


def ray_service(documents: list[Manifest]) -> Manifest:
    (found,) = (document for document in documents if document["kind"] == "RayService")
    return found


def serve_config(service: Manifest) -> Manifest:
    config: Manifest = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


def _set_images(node: Any, image: str) -> None:
    if isinstance(node, list):
        for entry in node:
            _set_images(entry, image)
    elif isinstance(node, dict):
        for value in node.values():
            _set_images(value, image)
        if isinstance(node.get("image"), str):
            name = node["image"].split("@")[0].rsplit(":", 1)[0]
            node["image"] = image if name == "sa-ray" else OTHERS.get(name) or node["image"]
