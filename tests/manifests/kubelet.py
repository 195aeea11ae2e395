"""Starts, asks and stops the Pods that KubeRay made, on this machine, as the kubelet does it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.manifests import services
from tests.manifests.kept_pods import CLUSTER, command_of, container_of, environment_of
from tests.manifests.kustomize import Manifest
from tests.manifests.pods import NODE, Pod, Pods

GIVE_UP_S = 180
SERVING = ("ray::ServeReplica", "ray::HAProxyManager", "ray::ProxyActor")
PASSWORD = "onlyTheSecretHasIt"
SECRETS = {
    "auth_token": "0123456789abcdef" * 4,
    "redis-password": PASSWORD,
    "jobs-url": f"redis://:{PASSWORD}@{NODE}:6379/0",
    "hf-token": "none",
}


@dataclass
class Kubelet:
    """Starts and stops the Pods of a RayService."""

    service: Manifest
    pods: Pods
    running: dict[str, tuple[Pod, Manifest]] = field(default_factory=dict)
    """Those that are not being deleted, by name, with what they were made of."""

    def start(self, name: str, made: Manifest) -> Pod:
        pod = self.pods.start(name, command_of(made), environment_of(made, name, SECRETS))
        self.running[name] = pod, made
        return pod

    def is_ready(self, name: str) -> bool:
        return _probe(*self.running[name], "readinessProbe")

    def is_alive(self, name: str) -> bool:
        return _probe(*self.running[name], "livenessProbe")

    def endpoints(self) -> list[str]:
        """Where the Service sends to now; from any thread."""
        running = dict(self.running)  # a Pod may be deleted meanwhile
        pods = {
            name: made
            for name, (pod, made) in running.items()
            if _probe(pod, made, "readinessProbe")
        }
        service = services.serve_service(self.service, CLUSTER)
        found = services.endpoints(service, pods, CLUSTER)
        return [f"{running[name][0].address}:{port}" for name, (port,) in found.items()]

    def delete(self, name: str, stopping: Callable[[], object]) -> dict[str, float]:
        """Stop a Pod; ``stopping`` is called when its `preStop` is over. Seconds that it took."""
        pod, made = self.running.pop(name)
        begun = time.monotonic()
        drained = self.pre_stop(pod, made)
        stopping()
        pod.terminate()
        grace = made["spec"]["terminationGracePeriodSeconds"]
        pod.process.wait(timeout=grace - drained)
        return {"preStop": drained, "in all": time.monotonic() - begun}

    def pre_stop(self, pod: Pod, made: Manifest) -> float:
        begun = time.monotonic()
        command = container_of(made)["lifecycle"]["preStop"]["exec"]["command"]
        grace = made["spec"]["terminationGracePeriodSeconds"]
        done = pod.execute(command).wait(timeout=grace)
        assert done == 0, pod.log.read_text()[-2000:]
        return time.monotonic() - begun


def _probe(pod: Pod, made: Manifest, kind: str) -> bool:
    probe = container_of(made)[kind]["httpGet"]
    return answers(f"http://{pod.address}:{probe['port']}{probe['path']}")


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def until(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + GIVE_UP_S
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(ask)
        time.sleep(0.5)
    return answer


def serving(pod: Pod) -> list[str]:
    """Serve's processes in a Pod."""
    inside = Path(f"/proc/{pod.first}/ns/pid").readlink()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes().partition(b"\0")[0].decode()
            if (folder / "ns/pid").readlink() == inside and name.startswith(SERVING):
                found.append(name)
        except OSError:  # it has ended
            continue
    return found
