"""Pods on one machine, without Kubernetes: each has a network, processes and files of its own.

To be used as root in a network namespace of its own, which is the node's, and in a process
namespace of its own, which ends all.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from pyroute2 import IPRoute, NetNS

NODE, MASK = "10.77.0.1", 24
OURS = Path("/proc/self/ns/net")


@dataclass(frozen=True)
class Root:
    """The files of an image, and how its processes are started."""

    path: Path
    env: dict[str, str]
    user: str
    directory: str

    def entered(self, command: list[str]) -> str:
        """What a shell that has it mounted does to run ``command`` in it."""
        environment = (f"{name}={value}" for name, value in self.env.items())
        inside = f"cd {self.directory} && exec {shlex.join(command)}"
        return shlex.join(
            [
                *("exec", "chroot", f"--userspec={self.user}", str(self.path)),
                *("/usr/bin/env", "-i", *environment, "/bin/sh", "-c", inside),
            ]
        )

    def mounts(self, scratch: Path, hosts: Path) -> list[str]:
        """Read-only but for `/tmp`, the home folder, and `/data`, which all Pods share."""
        at, tmpfs = self.path, "mount -t tmpfs -o mode=1777 tmpfs"
        return [
            f"mount --bind {at} {at}",
            f"mount --rbind /dev {at}/dev",
            f"mount -t proc proc {at}/proc",
            *(f"{tmpfs} {at}/{folder}" for folder in ("dev/shm", "tmp", "home/ray")),
            f"mount --bind {scratch}/data {at}/data",
            f"mount --bind {hosts} {at}/etc/hosts",
            f"mount --bind {scratch}/no-dns {at}/etc/resolv.conf",
            f"mount -o remount,bind,ro {at}",
        ]


@dataclass
class Pod:
    name: str
    address: str
    root: Root
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def first(self) -> int:
        """Its PID 1, as it is known out here."""
        outer = self.process.pid
        (pid,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        return int(pid)

    def execute(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Run a command beside PID 1, as a probe or `preStop` does."""
        return subprocess.Popen(
            [
                *("nsenter", f"--target={self.first}", "--mount", "--pid", "--net", "--uts"),
                *("sh", "-c", self.root.entered(command)),
            ],
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
        )

    def terminate(self) -> None:
        os.kill(self.first, signal.SIGTERM)


@dataclass
class Pods:
    """A node, and the Pods on it."""

    root: Root
    scratch: Path
    names: dict[str, str] = field(default_factory=dict)
    """Addresses by name, in every Pod's `/etc/hosts`."""
    _routes: IPRoute = field(default_factory=IPRoute)
    _numbers: Iterator[int] = field(default_factory=lambda: count(2))

    def __post_init__(self) -> None:
        self._routes.link("set", index=self._index("lo"), state="up")
        self._routes.link("add", ifname="pods", kind="bridge")
        self._routes.link("set", index=self._index("pods"), state="up")
        self._routes.addr("add", index=self._index("pods"), address=NODE, prefixlen=MASK)
        self.root = self._layered(self.root)
        (self.scratch / "data").mkdir()
        (self.scratch / "data").chmod(0o777)
        (self.scratch / "no-dns").touch()

    def _layered(self, root: Root) -> Root:
        """The root with what Pods mount over, and the image left as it is."""
        lower, upper = root.path, self.scratch / "layer"
        for folder in ("dev", "proc", "tmp", "home/ray", "data", "etc"):
            (upper / folder).mkdir(parents=True)
        for file in ("etc/hosts", "etc/resolv.conf"):
            (upper / file).touch()
        for folder in ("work", "root"):
            (self.scratch / folder).mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={self.scratch}/work"
        merged = self.scratch / "root"
        subprocess.run(
            ["mount", "-t", "overlay", "-o", options, "overlay", str(merged)], check=True
        )
        return replace(root, path=merged)

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> Pod:
        number = next(self._numbers)
        address = NODE.rpartition(".")[0] + f".{number}"
        root = replace(self.root, env=self.root.env | environment)
        mounts = root.mounts(self.scratch, self._hosts(name, address))
        first = [f"hostname {name}", "read ready", root.entered(command)]
        log = self.scratch / f"{name}.log"
        process = subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child"),
                *("sh", "-c", "\n".join(["set -e", *mounts, *first])),
            ],
            stdin=subprocess.PIPE,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        pod = Pod(name, address, root, process, log)
        self._connect(pod, f"pod{number}")
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.close()
        return pod

    def rename(self, name: str, address: str) -> None:
        """Have every Pod, those that run among them, find ``name`` at ``address``."""
        self.names[name] = address
        for file in self.scratch.glob("*.hosts"):
            self._write_hosts(file)

    def _hosts(self, name: str, address: str) -> Path:
        file = self.scratch / f"{name}_{address}.hosts"
        self._write_hosts(file)
        return file

    def _write_hosts(self, file: Path) -> None:
        name, _, address = file.stem.partition("_")
        own = {"localhost": "127.0.0.1", name: address}
        lines = (f"{there} {called}\n" for called, there in (own | self.names).items())
        file.write_text("".join(lines))

    def _connect(self, pod: Pod, interface: str) -> None:
        namespace = Path(f"/proc/{pod.process.pid}/ns/net")
        while namespace.readlink() == OURS.readlink():
            os.sched_yield()
        self._routes.link(
            "add",
            ifname=interface,
            kind="veth",
            peer={"ifname": "eth0", "net_ns_pid": pod.process.pid},
        )
        index = self._index(interface)
        self._routes.link("set", index=index, master=self._index("pods"), state="up")
        with NetNS(str(namespace)) as inside:
            (loopback,) = inside.link_lookup(ifname="lo")
            (eth0,) = inside.link_lookup(ifname="eth0")
            inside.link("set", index=loopback, state="up")
            inside.addr("add", index=eth0, address=pod.address, prefixlen=MASK)
            inside.link("set", index=eth0, state="up")
            inside.route("add", gateway=NODE)

    def _index(self, interface: str) -> int:
        (index,) = self._routes.link_lookup(ifname=interface)
        return int(index)
