"""A Kubernetes cluster of processes on this machine: see README.md.

python -m tests.kubernetes.local.cluster up FOLDER
python -m tests.kubernetes.local.cluster load FOLDER IMAGE.tar ...
python -m tests.kubernetes.local.cluster down FOLDER
"""

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kubernetes.local import images
from tests.kubernetes.local.node import PAUSE, Node
from tests.kubernetes.local.pki import Authority
from tests.kubernetes.local.processes import Processes

MANIFESTS = Path(__file__).parent / "manifests.yaml"
VOLUMES = 12
DNS = "localhost/sa-ray-tests/coredns:1"
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
GPU = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
GPUS = 4
START_TIMEOUT_S = 180.0
USERS = {
    "admin": ("admin", ("system:masters",)),
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "proxy": ("system:kube-proxy", ()),
}


@dataclass(frozen=True)
class Cluster:
    folder: Path

    @property
    def nodes(self) -> list[Node]:
        taints: dict[str, tuple[dict[str, str], ...]] = {"cpu-1": (), "cpu-2": (), "gpu-1": (GPU,)}
        return [
            Node(self.folder / "nodes" / name, name, number, taints[name])
            for number, name in enumerate(taints, start=1)
        ]

    @property
    def processes(self) -> Processes:
        return Processes(self.folder / "processes")

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    def up(self) -> None:
        """Return once all nodes are Ready and names are resolved."""
        address = _address()
        if not self.pki.is_dir():
            self._make_certificates(address)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self._start_control_plane(address)
        self._until("get", "--raw", "/readyz")
        for node in self.nodes:
            node.start_runtime(self.processes)
        self.load(*self._own_images())
        for node in self.nodes:
            node.start_kubelet(self.processes, self._bin("kubelet"), address, self.pki)
        self._enforce_policies()
        self.kubectl("apply", "--filename", str(MANIFESTS))
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(self._volumes()))
        self._until("get", "nodes", *(node.name for node in self.nodes))
        # Stands in for NVIDIA's device plugin.
        gpus = {"nvidia.com/gpu": str(GPUS)}
        patch = json.dumps({"status": {"capacity": gpus, "allocatable": gpus}})
        self.kubectl("patch", "node", "gpu-1", "--subresource=status", f"--patch={patch}")
        self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=120s")
        wanted = ("rollout", "status", "deployment/coredns", "--timeout=120s")
        self.kubectl("--namespace=kube-system", *wanted)

    def load(self, *archives: Path) -> None:
        """Give images, as OCI or Docker archives, to all nodes."""
        for archive in archives:
            for node in self.nodes:
                _retried(functools.partial(node.ctr, "images", "import", archive))

    def down(self) -> None:
        """End everything; volumes and certificates stay in the folder."""
        for node in self.nodes:
            self.processes.stop(f"kubelet-{node.name}")
            if node.socket.exists():
                node.end_containers()
            self.processes.stop(f"containerd-{node.name}")
        for name in self.processes.running():
            self.processes.stop(name)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        command = [str(self._bin("kubectl")), f"--kubeconfig={self.folder}/kubeconfig", *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def _start_control_plane(self, address: str) -> None:
        start, pki = self.processes.start, self.pki
        start(
            *("etcd", "etcd", f"--data-dir={self.folder}/etcd", "--logger=zap"),
            *(
                "--listen-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
            ),
            "--advertise-client-urls=http://127.0.0.1:2379",
        )
        start(
            *("kube-apiserver", self._bin("kube-apiserver"), f"--advertise-address={address}"),
            *("--etcd-servers=http://127.0.0.1:2379", f"--service-cluster-ip-range={SERVICES}"),
            *(f"--client-ca-file={pki}/ca.crt", "--authorization-mode=Node,RBAC"),
            *(f"--tls-cert-file={pki}/server.crt", f"--tls-private-key-file={pki}/server.key"),
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki}/server.key",
            f"--service-account-signing-key-file={pki}/server.key",
            *("--enable-admission-plugins=NodeRestriction", "--allow-privileged=true"),
        )
        start(
            *("kube-controller-manager", self._bin("kube-controller-manager")),
            f"--kubeconfig={pki}/controller-manager.kubeconfig",
            *(f"--root-ca-file={pki}/ca.crt", "--leader-elect=false"),
            f"--service-account-private-key-file={pki}/server.key",
            "--use-service-account-credentials=true",
        )
        start(
            *("kube-scheduler", self._bin("kube-scheduler"), "--leader-elect=false"),
            f"--kubeconfig={pki}/scheduler.kubeconfig",
        )
        start(
            *("kube-proxy", self._bin("kube-proxy"), f"--kubeconfig={pki}/proxy.kubeconfig"),
            *(f"--cluster-cidr={PODS}", "--proxy-mode=iptables", "--hostname-override=cpu-1"),
            *("--conntrack-max-per-core=0", "--conntrack-min=0"),
        )

    def _enforce_policies(self) -> None:
        """One for all nodes, as they have the same address."""
        self.processes.start(
            *("kube-router", self._bin("kube-router"), f"--kubeconfig={self.folder}/kubeconfig"),
            *("--run-firewall=true", "--run-router=false", "--run-service-proxy=false"),
            *("--run-loadbalancer=false", "--hostname-override=cpu-1", "--metrics-port=0"),
            *(f"--service-cluster-ip-range={SERVICES}", "--iptables-sync-period=1m"),
        )

    def _make_certificates(self, address: str) -> None:
        authority = Authority.create(self.pki)
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        addresses = ("10.96.0.1", "127.0.0.1", address)
        authority.issue("server", "kube-apiserver", hosts=(*names, *addresses))
        nodes = {node.name: (f"system:node:{node.name}", ("system:nodes",)) for node in self.nodes}
        for file, (user, groups) in (USERS | nodes).items():
            authority.issue(file, user, groups)
            (self.pki / f"{file}.kubeconfig").write_text(authority.kubeconfig(file))
        shutil.copy(self.pki / "admin.kubeconfig", self.folder / "kubeconfig")

    def _own_images(self) -> list[Path]:
        folder = self.folder / "images"
        return [
            images.pack(folder / f"{program}.tar", name, images.with_libraries(self._bin(program)))
            for program, name in (("pause", PAUSE), ("coredns", DNS))
        ]

    def _volumes(self) -> dict[str, object]:
        """Folders that all nodes see, as they are one machine."""
        everywhere = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
        items = []
        for number in range(VOLUMES):
            path = self.folder / "volumes" / str(number)
            path.mkdir(parents=True, exist_ok=True)
            spec = {
                "capacity": {"storage": "50Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "storageClassName": "standard",
                "local": {"path": str(path)},
                "nodeAffinity": {
                    "required": {"nodeSelectorTerms": [{"matchExpressions": [everywhere]}]}
                },
            }
            meta = {"name": f"local-{number}"}
            items.append(
                {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}
            )
        return {"apiVersion": "v1", "kind": "List", "items": items}

    def _until(self, *words: str) -> None:
        _retried(lambda: self.kubectl(*words))

    def _bin(self, name: str) -> Path:
        return self.folder / "bin" / name


def _retried(call: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            call()
            return
        except (RuntimeError, subprocess.CalledProcessError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _address() -> str:
    """This machine's own, on its default route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # Nothing is sent.
        address: str = probe.getsockname()[0]
        return address


def main() -> None:
    verb, folder, *archives = sys.argv[1:]
    os.umask(0o022)
    cluster = Cluster(Path(folder).resolve())
    match verb:
        case "up":
            cluster.up()
        case "load":
            cluster.load(*map(Path, archives))
        case "down":
            cluster.down()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
