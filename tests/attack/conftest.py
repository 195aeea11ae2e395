"""One service as ``sa-ray demo`` starts it, to attack."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sa_ray.local import LocalService
from tests.support.commands import MARK, marked

from .strangers import listening


@dataclass(frozen=True)
class Target:
    """A running service, and where its processes listen."""

    service: LocalService
    folder: Path
    private: Path
    """The folder of its Ray, with the token."""
    listens: dict[tuple[str, int], str]
    processes: dict[int, str]
    """Names by process id."""

    def ports(self, process: str) -> list[int]:
        """Ports of the processes whose name starts with ``process``."""
        return [port for (_, port), name in self.listens.items() if name.startswith(process)]


def private_folder(processes: dict[int, str]) -> Path:
    """The folder that the Ray among ``processes`` was told to use."""
    [raylet] = (pid for pid, name in processes.items() if name == "raylet")
    return Path(psutil.Process(raylet).environ()["RAY_TMPDIR"])


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        with tempfile.TemporaryDirectory(prefix="attack-") as name:
            folder = Path(name)
            args = {
                "jobs_url": f"sqlite:///{folder}/jobs.db",
                "output_dir": f"{folder}/outputs",
                "max_waiting_requests": 20,
            }
            with LocalService(folder, args) as service:
                service.wait_until_ready()
                processes = marked(mark)
                # Others may enter the folder of the results: what is in it has to guard itself.
                folder.chmod(0o755)
                private = private_folder(processes)
                yield Target(service, folder, private, listening(processes), processes)
    finally:
        del os.environ[MARK]
