"""Executes a Dockerfile's steps without a container engine: chroot, and this machine as base image.

An image that is not a stage of the file is an empty root that borrows the machine's `/usr` and
its Python, both read-only. Needs root, for mounts.
"""

import json
import os
import shlex
import shutil
import string
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser

DIRECTORIES = ("build", "dev", "etc", "home", "opt", "proc", "root", "tmp", "usr")
LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
ACCOUNTS = ("group", "gshadow", "passwd", "shadow")
ETC = (
    *("login.defs", "nsswitch.conf"),
    *("hosts", "resolv.conf", "ld.so.cache", "ssl", "pip.conf", "ca-certificates"),
)
PIP = ("PIP_", "SSL_CERT", "REQUESTS_CA", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


# SIOCSIFFLAGS: IFF_UP | IFF_RUNNING.
LOOPBACK_UP = """
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 0x41))
"""


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    parser = DockerfileParser(path=str(dockerfile))
    return [
        (step["instruction"], step["value"])
        for step in parser.structure
        if step["instruction"] != "COMMENT"
    ]


def stages(dockerfile: Path) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """By name: the image that the stage begins from, and its steps."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    arguments: dict[str, str] = {}
    steps: list[tuple[str, str]] = []
    for instruction, value in instructions(dockerfile):
        if instruction == "FROM":
            image, _, name = value.partition(" AS ")
            steps = []
            found[name] = string.Template(image).substitute(arguments), steps
        elif not found:
            arguments.update([value.split("=", 1)])
        else:
            steps.append((instruction, value))
    return found


@dataclass
class Image:
    """The root of a stage, and how its processes are started."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    command: list[str] = field(default_factory=list)

    def run(
        self,
        command: str,
        *,
        read_only: bool = False,
        alone: bool = False,
        timeout_s: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command, and end what it has started. ``read_only``: `/tmp` and the home
        folder are the only places that can be written, as in the manifests. ``alone``: with a
        network of its own, where every port is free."""
        script = "\n".join(
            [
                "set -e",
                *([shlex.join([sys.executable, "-c", LOOPBACK_UP])] if alone else ()),
                *([f"mount --bind {self.root} {self.root}"] if read_only else ()),
                *(_bind(source, self.root / target) for source, target in _borrowed()),
                f"mount --rbind /dev {self.root}/dev",
                f"mount -t proc proc {self.root}/proc",
                *(_sealed(self.root) if read_only else ()),
                shlex.join(self._entered(command)),
            ]
        )
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
            + (["--net"] if alone else [])
            + ["sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _entered(self, command: str) -> list[str]:
        environment = (f"{name}={value}" for name, value in self._environment().items())
        return [
            *("exec", "chroot", f"--userspec={self.user}", str(self.root)),
            *("/usr/bin/env", "-i", *environment),
            *("/bin/sh", "-c", f"cd {self.directory} && {command}"),
        ]

    def _environment(self) -> dict[str, str]:
        borrowed = {k: v for k, v in os.environ.items() if k.upper().startswith(PIP)}
        base = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
        # The machine's Python was built for another folder than the one that it is seen in here.
        return base | {"LD_LIBRARY_PATH": "/usr/local/lib"} | borrowed | self.env


class Builder:
    def __init__(self, dockerfile: Path, context: Path, scratch: Path) -> None:
        self._stages = stages(dockerfile)
        self._context = context
        self._scratch = scratch
        self._built: dict[str, Image] = {}

    def build(self, name: str) -> Image:
        """The image of a stage; stages that it is made of are built first."""
        if name in self._built:
            return self._built[name]
        base, steps = self._stages[name]
        root = self._scratch / name
        if base in self._stages:
            before = self.build(base)
            _copy(before.root, root)
            image = Image(root, dict(before.env), before.directory, before.user, before.command)
        else:
            _make_root(root)
            image = Image(root)
        for instruction, value in steps:
            self._step(image, instruction, value)
        self._built[name] = image
        return image

    def _step(self, image: Image, instruction: str, value: str) -> None:
        match instruction:
            case "RUN":
                done = image.run(value)
                if done.returncode:
                    raise AssertionError(f"RUN {value}\n{done.stdout}\n{done.stderr}")
            case "COPY":
                self._copy_step(image, value)
            case "ENV" | "ARG":
                for name, text in (entry.split("=", 1) for entry in shlex.split(value)):
                    known = image._environment()
                    image.env[name] = string.Template(text).substitute(known)
            case "WORKDIR":
                image.directory = value
                (image.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                image.user = value
            case "CMD":
                image.command = json.loads(value)
            case "EXPOSE":
                pass
            case _:
                raise NotImplementedError(instruction)

    def _copy_step(self, image: Image, value: str) -> None:
        words = shlex.split(value)
        options = dict(
            word.removeprefix("--").split("=", 1) for word in words if word.startswith("--")
        )
        *sources, target = (word for word in words if not word.startswith("--"))
        origin = self.build(options["from"]).root if "from" in options else self._context
        place = (
            image.root / target.lstrip("/")
            if target[0] == "/"
            else image.root / (image.directory.lstrip("/")) / target
        )
        for source in sources:
            path = origin / source.lstrip("/")
            into = place / path.name if target.endswith("/") else place
            if path.is_dir():
                _copy(path, into)
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, into)
                into.chmod(int(options.get("chmod", "644"), 8))


def _make_root(root: Path) -> None:
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in LINKS:
        if (Path("/") / name).is_symlink():
            (root / name).symlink_to((Path("/") / name).readlink())
    (root / "tmp").chmod(0o1777)
    # As in a bare image: of all accounts, root's alone.
    for name in ACCOUNTS:
        lines = (Path("/etc") / name).read_text().splitlines(keepends=True)
        (root / "etc" / name).write_text("".join(x for x in lines if x.startswith("root:")))
    for name in ETC:
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, root / "etc" / name, symlinks=True)
        elif source.exists():
            shutil.copy2(source, root / "etc" / name)


def _borrowed() -> list[tuple[Path, str]]:
    """What a root takes from the machine, read-only: programs, Python, and pip's own sources."""
    listed: Any = subprocess.run(
        [Path(sys.base_prefix) / "bin" / "python3", "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.replace("'", " ")
    folders = {Path(word.removeprefix("file://")) for word in listed.split() if "/" in word}
    return [
        (Path("/usr"), "usr"),
        (Path(sys.base_prefix), "usr/local"),
        *((folder, str(folder).lstrip("/")) for folder in sorted(folders) if folder.is_dir()),
    ]


def _bind(source: Path, target: Path) -> str:
    return (
        f"mkdir -p {target} && mount --bind {source} {target} && mount -o remount,bind,ro {target}"
    )


def _sealed(root: Path) -> list[str]:
    return [
        f"mount -t tmpfs -o mode=1777 tmpfs {root / 'tmp'}",
        f"mount -t tmpfs -o uid=1000,gid=1000 tmpfs {root}/home/ray",
        f"mount -o remount,bind,ro {root}",
    ]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", target], check=True)
