"""Which Pods a Service of KubeRay's sends HTTP to.

After `BuildServeService` and `BuildPod` in `ray-operator/controllers/ray/common` of KubeRay 1.7,
and `FindPort` of Kubernetes, by which its EndpointSlices are made.
"""

from collections.abc import Iterator
from typing import Any

from tests.manifests.kustomize import Manifest

CLUSTER, SERVE = "ray.io/cluster", "ray.io/serve"
DEFAULT_NAME = "serve"


class ServiceError(Exception):
    """KubeRay would not make the service."""


def serve_service(service: Manifest, cluster: str) -> Manifest:
    """The Service before the Ray nodes of ``cluster``, which a RayService has KubeRay make.

    Raises:
        ServiceError: No port of the head's is for Serve, and none is given.
    """
    spec = service["spec"]
    own = spec.get("serveService", {}).get("spec", {})
    given = {port["name"]: port for port in own.get("ports", ())}
    head = _ports(spec["rayClusterConfig"]["headGroupSpec"]["template"])
    found = [
        {"name": port["name"], "port": port["containerPort"]}
        for port in head
        if _for_serve(port.get("name", ""))
    ]
    if not found and not given:
        raise ServiceError("a port named serve is wanted")
    ports = [given.get(port["name"], port) for port in found] or list(given.values())
    # The selector is KubeRay's, whatever else is given.
    return {"spec": own | {"ports": ports, "selector": {CLUSTER: cluster, SERVE: "true"}}}


def labels_of(pod: Manifest, cluster: str) -> dict[str, str]:
    """The Pod's, with those that KubeRay puts on each and lets nobody change."""
    head = pod["metadata"]["labels"]["ray.io/node-type"] == "head"
    return pod["metadata"]["labels"] | {CLUSTER: cluster, SERVE: str(not head).lower()}


def endpoints(service: Manifest, pods: dict[str, Manifest], cluster: str) -> dict[str, list[int]]:
    """The ports of each Pod, all of them Ready, that the Service sends to."""
    selector = service["spec"]["selector"].items()
    found = {
        name: [number for port in service["spec"]["ports"] for number in _targets(port, pod)]
        for name, pod in pods.items()
        if selector <= labels_of(pod, cluster).items()
    }
    return {name: ports for name, ports in found.items() if ports}


def _targets(port: Manifest, pod: Manifest) -> Iterator[int]:
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        yield target
        return
    for entry in _ports(pod):
        if entry.get("name") == target:
            yield entry["containerPort"]
            return


def _ports(pod: Manifest) -> list[Any]:
    return pod["spec"]["containers"][0].get("ports", [])  # type: ignore[no-any-return]


def _for_serve(name: str) -> bool:
    return name == DEFAULT_NAME or name.startswith(f"{DEFAULT_NAME}-")
