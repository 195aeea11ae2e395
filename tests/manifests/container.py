"""Builds the image by a container engine, on a base made of Debian's packages, and runs it.

Podman builds as buildah does, and needs neither a daemon nor a registry of images. Needs root.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = ("podman", "runc", "mmdebstrap")
BASE = "localhost/base"

# In place of python:3.11-slim-bookworm, which comes from a registry.
MAKE_BASE = (
    *("mmdebstrap", "--quiet", "--variant=apt", "--include=ca-certificates,python3-venv"),
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    '--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
    "bookworm",
)

# As the manifests' Pods. Limits: podman's own are more than the root of some machines may set.
CONFINED = (
    *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"),
    *("--tmpfs=/tmp:mode=1777", "--tmpfs=/home/ray:mode=1777", "--shm-size=2g"),
    *("--pids-limit=-1", "--ulimit=nofile=16384:16384", "--ulimit=nproc=16384:16384"),
)


def missing() -> str:
    """What building needs and this machine has not, or nothing."""
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    return ", ".join(["root"] * (os.geteuid() != 0) + absent)


@dataclass(frozen=True)
class Engine:
    """Podman with a storage of its own, so that it finds and leaves nothing."""

    folder: Path

    @property
    def command(self) -> list[str]:
        storage = (f"--root={self.folder / 'images'}", f"--runroot={self.folder / 'run'}")
        return ["podman", "--runtime=runc", *storage]

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)
        end = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, f"podman {words[0]}\n{end}"
        return done.stdout

    def clear(self) -> None:
        self("image", "rm", "--all", "--force")
        subprocess.run(["umount", self.folder / "images" / "overlay"], check=False)


@dataclass(frozen=True)
class Image:
    engine: Engine
    name: str

    def run(self, command: str, *, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a shell command as in a Pod of the manifests: read-only but for `/tmp` and the home
        folder, without capabilities. Its network is its own, where every port is free."""
        return subprocess.run(
            [*self.engine.command, "run", "--rm", *CONFINED, self.name, "bash", "-c", command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def root(self) -> Path:
        """Its files, for what starts its programs itself."""
        return Path(self.engine("mount", self.engine("create", self.name).strip()).strip())

    def config(self) -> dict[str, Any]:
        (found,) = json.loads(self.engine("image", "inspect", self.name))
        return dict(found["Config"])

    def layers(self) -> list[int]:
        """The bytes of its layers, the last one first."""
        history = json.loads(self.engine("history", "--format=json", self.name))
        return [entry["size"] for entry in history if entry["size"]]


@contextmanager
def built(dockerfile: Path, context: Path, target: str) -> Iterator[Image]:
    """A target. How pip reaches its registry is mounted, and stays out of the image."""
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        engine = Engine(Path(scratch))
        base = Path(scratch) / "base.tar"
        subprocess.run([*MAKE_BASE, base], check=True, capture_output=True)
        engine("import", str(base), BASE)
        image = Image(engine, f"localhost/sa-ray:{target}")
        engine(
            *("build", "--isolation=chroot", "--network=host"),
            *(f"--volume={volume}:ro" for volume in _pip_settings(Path(scratch) / "home")),
            *(f"--build-arg=BASE_IMAGE={BASE}", f"--file={dockerfile}", f"--target={target}"),
            *(f"--tag={image.name}", str(context)),
        )
        try:
            yield image
        finally:
            engine.clear()


def _pip_settings(home: Path) -> list[str]:
    """Volumes: a home of root with this machine's settings of pip, and the files that they name."""
    python = Path(sys.base_prefix) / "bin" / "python3"
    listed = subprocess.check_output([python, "-m", "pip", "config", "list"], text=True)
    settings = {
        name.rpartition(".")[2]: ast.literal_eval(value)
        for name, _, value in (line.partition("=") for line in listed.splitlines())
    }
    config = home / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    lines = (f"{name} = {value}" for name, value in settings.items())
    config.write_text("\n".join(["[global]", *lines]))
    named = {word.removeprefix("file://") for value in settings.values() for word in value.split()}
    files = sorted(word for word in named if word.startswith("/") and Path(word).is_file())
    return [f"{home}:/root", *(f"{path}:{path}" for path in files)]
