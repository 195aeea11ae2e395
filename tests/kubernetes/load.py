"""A Pod that puts load on the service, and tells afterwards what became of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kubernetes.kube import Kube

CLIENT = Path(__file__).parent / "client.py"
URL = "http://sa-ray-serve-svc:8000"


@dataclass
class Outcome:
    """What the client tells at its end."""

    told: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> str:
        told = self.told
        return ", ".join(
            [
                *(f"{what}: {count}" for what, count in sorted(told["answers"].items())),
                f"jobs {told['jobs']}, ends {told['ends']}, attempts {told['attempts']}",
                f"heard {told['heard']}, longest wait {told['longest wait']} s",
                f"longest silence {told['longest silence']} s",
                *map(str, told["failures"]),
            ]
        )


@contextmanager
def load(
    kube: Kube,
    image: str,
    *,
    sync_per_s: float = 0,
    jobs_per_s: float = 0,
    model: str = "small-sfx",
) -> Iterator[Outcome]:
    """Load on the service while the block runs; ``Outcome`` is filled in at its end, once all jobs
    have ended."""
    outcome = Outcome()
    kube.run("delete", "pod,configmap", "load", "--ignore-not-found", "--grace-period=1")
    kube.run("create", "configmap", "load", f"--from-file={CLIENT}")
    arguments = [URL, str(sync_per_s), str(jobs_per_s), model]
    kube.run("apply", "--filename=-", stdin=json.dumps(_pod(image, arguments)))
    kube.run("wait", "--for=condition=Ready", "pod/load", "--timeout=60s")
    try:
        yield outcome
        kube.run("exec", "load", "--", "touch", "/tmp/stop")  # noqa: S108
        kube.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/load", "--timeout=500s")
        outcome.told = json.loads(kube.run("logs", "load").splitlines()[-1])
    finally:
        kube.run("delete", "pod,configmap", "load", "--ignore-not-found", "--grace-period=1")


def _pod(image: str, arguments: list[str]) -> dict[str, Any]:
    container = {
        "name": "load",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/load/client.py", *arguments],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "client", "mountPath": "/load"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "load"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "client", "configMap": {"name": "load"}}],
        },
    }
