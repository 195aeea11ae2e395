"""A cluster as `kubectl` and `KUBECONFIG` reach it."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]
POLL_S = 0.5
HEAD = "ray.io/node-type=head"


class KubectlError(Exception):
    """kubectl's own words."""


@dataclass(frozen=True)
class Kube:
    namespace: str = "sa-ray"

    def run(self, *words: str, stdin: str | None = None, timeout_s: float = 600) -> str:
        done = subprocess.run(
            ["kubectl", "--namespace", self.namespace, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, folder: Path) -> None:
        self.run("apply", "--kustomize", str(folder))

    def get(self, kind: str, *words: str) -> list[Object]:
        """All of ``kind`` that the further ``words`` (such as a selector) leave."""
        found = json.loads(self.run("get", kind, "--output=json", *words))
        items: list[Object] = found.get("items", [found])
        return items

    def pods(self, selector: str = "ray.io/is-ray-node=yes") -> list[Object]:
        """Those that are not on their way out."""
        pods = self.get("pods", f"--selector={selector}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def pod(self, selector: str) -> Object:
        (pod,) = self.pods(selector)
        return pod

    def ready(self, selector: str) -> list[str]:
        """Names of the Pods of ``selector`` that are Ready."""
        return [pod["metadata"]["name"] for pod in self.pods(selector) if is_ready(pod)]

    def service_status(self) -> Object:
        (service,) = self.get("rayservice", "sa-ray")
        status: Object = service.get("status", {})
        return status

    def is_serving(self) -> bool:
        conditions = self.service_status().get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def until(self, condition: Callable[[], object], timeout_s: float) -> float:
        """Poll until ``condition`` holds, which may fail meanwhile; return the seconds it took."""
        begun = time.monotonic()
        error: Exception | None = None
        while time.monotonic() - begun < timeout_s:
            try:
                if condition():
                    return time.monotonic() - begun
            except (KubectlError, ValueError) as failed:
                error = failed
            time.sleep(POLL_S)
        raise AssertionError(f"not within {timeout_s} s; {error or ''}\n{self.overview()}")

    def overview(self) -> str:
        return self.run("get", "rayservice,raycluster,pods", "--output=wide")


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
