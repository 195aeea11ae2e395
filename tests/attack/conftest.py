"""One service as ``sa-ray demo`` starts it, to attack."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sa_ray.local import LocalService
from tests.support.commands import MARK, marked
from tests.support.order import arrange
from tests.support.secret_settings import PLACEHOLDER, environment

from .strangers import listening


@dataclass(frozen=True)
class Target:
    """A running service, and where its processes listen."""

    service: LocalService
    folder: Path
    private: Path
    """The folder of its Ray, with the token."""
    mark: str

    @property
    def processes(self) -> dict[int, str]:
        """Names by process id."""
        return marked(self.mark)

    @property
    def listens(self) -> dict[tuple[str, int], str]:
        """Names by address and port."""
        return listening(self.processes)

    def ports(self, process: str) -> list[int]:
        """Ports of the processes whose name starts with ``process``."""
        return [port for (_, port), name in self.listens.items() if name.startswith(process)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Attack ``target`` last: it is started once, and not while other services run."""
    arrange(items, __file__, lambda fixtures: "target" in fixtures)


def private_folder(processes: dict[int, str]) -> Path:
    """The folder that the Ray among ``processes`` was told to use."""
    [raylet] = (pid for pid, name in processes.items() if name == "raylet")
    return Path(psutil.Process(raylet).environ()["RAY_TMPDIR"])


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder = Path(name)
        args = {
            "jobs_url": f"sqlite:///{folder}/jobs.db",
            "output_dir": f"{folder}/outputs",
            "max_waiting_requests": 20,
        }
        with ExitStack() as stack:
            with environment({MARK: mark, "STABLE_AUDIO_WEBHOOK_SECRET": PLACEHOLDER}):
                service = stack.enter_context(LocalService(folder, args))
            service.wait_until_ready()
            # Others may enter the folder of the results: what is in it has to guard itself.
            folder.chmod(0o755)
            yield Target(service, folder, private_folder(marked(mark)), mark)
