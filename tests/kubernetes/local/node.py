"""A node: a kubelet and a containerd of its own, beside others on the same machine."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kubernetes.local.processes import Processes

CLUSTER_DNS = "10.96.0.10"
PAUSE = "localhost/sa-ray-tests/pause:1"
KUBELET_PORT = 10250
CONTROLLERS = Path("/sys/fs/cgroup")

CONTAINERD = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  # Where this machine's root may not give itself a better score than it has.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""


@dataclass(frozen=True)
class Node:
    folder: Path
    name: str
    number: int
    """From 1; it chooses the ports and the Pods' network."""
    taints: tuple[dict[str, str], ...] = ()

    @property
    def socket(self) -> Path:
        return self.folder / "containerd.sock"

    def start_runtime(self, processes: Processes) -> None:
        (self.folder / "cni").mkdir(parents=True, exist_ok=True)
        (self.folder / "cni" / "10-bridge.conflist").write_text(json.dumps(self._network()))
        config = self.folder / "containerd.toml"
        config.write_text(CONTAINERD.format(folder=self.folder, pause=PAUSE))
        processes.start(f"containerd-{self.name}", "containerd", "--config", config)

    def start_kubelet(self, processes: Processes, kubelet: Path, address: str, pki: Path) -> None:
        for controller in CONTROLLERS.iterdir():
            if controller.is_dir() and (controller / "cgroup.procs").exists():
                (controller / self.name).mkdir(exist_ok=True)
        # Or else a whole node would count as much as one process beside it.
        if (shares := CONTROLLERS / "cpu" / self.name / "cpu.shares").exists():
            shares.write_text("16384")
        config = self.folder / "kubelet.json"
        config.write_text(json.dumps(self._kubelet(pki)))
        processes.start(
            *(f"kubelet-{self.name}", kubelet, f"--config={config}"),
            f"--kubeconfig={pki}/{self.name}.kubeconfig",
            f"--root-dir={self.folder}/kubelet",
            f"--cert-dir={self.folder}/kubelet-pki",
            f"--hostname-override={self.name}",
            f"--node-ip={address}",
        )

    def ctr(self, *words: str | Path) -> str:
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def end_containers(self) -> None:
        for task in self.ctr("tasks", "list", "--quiet").split():
            self.ctr("tasks", "kill", "--signal", "SIGKILL", "--all", task)

    def _network(self) -> dict[str, Any]:
        return {
            "cniVersion": "0.4.0",
            "name": self.name,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": f"cni{self.number}",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.folder / "addresses"),
                        "ranges": [[{"subnet": f"10.244.{self.number}.0/24"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }

    def _kubelet(self, pki: Path) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": f"{pki}/ca.crt"},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "clusterDomain": "cluster.local",
            "clusterDNS": [CLUSTER_DNS],
            "resolvConf": "/etc/resolv.conf",
            "port": KUBELET_PORT + 10 * self.number,
            "healthzPort": KUBELET_PORT + 10 * self.number + 1,
            # Kubelets clear away what they do not know, so each has its own of these.
            "podLogsDir": str(self.folder / "logs"),
            "cgroupRoot": f"/{self.name}",
            # What a machine without systemd, with the first version of cgroups, wants.
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "enforceNodeAllocatable": ["none"],
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            "featureGates": {"KubeletInUserNamespace": True},
            # Or else images go when the disk is nearly full: even the one that Pods begin with.
            "evictionHard": {"memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "registerWithTaints": list(self.taints),
        }
