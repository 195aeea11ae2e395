"""`sa-ray serve`: processes of its Ray and of Serve are killed under load, and it goes on."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from sa_ray.local import IMPORT_PATH, free_port
from tests.support.commands import BIN, MARK, left_running
from tests.support.service import local_settings

from .conftest import BOOKS, one_replica_each
from .rows import BookedService, Row

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

BACK_S = 120.0
"""Twice what a machine with nothing else to do may take."""

POLL_S = 0.1

TITLES = {
    "raylet": "raylet",
    "GCS": "gcs_server",
    "dashboard agent": "ray::DashboardAgent",
    "runtime environment agent": "ray::RuntimeEnvAgent",
    "Serve controller": "ray::ServeController",
    "HAProxy": "haproxy",
    "manager of HAProxy": "ray::HAProxyManager",
}

ROWS = [
    ["raylet"],
    ["GCS"],
    ["dashboard agent", "runtime environment agent"],
    ["Serve controller", "HAProxy", "manager of HAProxy"],
]
"""Victims of one load, one after the other."""


class Command(BookedService):
    """``sa-ray serve``, as one process of the machine's and as its clients see it."""

    def __init__(self, folder: Path, mark: str) -> None:
        port = free_port()
        settings = {**local_settings(folder), **one_replica_each()}
        application = {"name": "sa-ray", "route_prefix": "/", "import_path": IMPORT_PATH}
        document = {"applications": [{**application, "args": settings}]}
        (folder / "serve_config.yaml").write_text(yaml.safe_dump(document))
        super().__init__(f"http://127.0.0.1:{port}", settings, BOOKS)
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(BIN / "sa-ray"), "serve", "--port", str(port)],
                cwd=folder,
                env={**os.environ, MARK: mark},
                stdout=log,
                stderr=log,
            )

    def find(self, title: str) -> list[psutil.Process]:
        """The processes of this title among those of the command.

        While an actor runs a method its title ends in ``.<method>``.
        """
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error, IndexError):
                name = Path(process.cmdline()[0]).name
                if name == title or name.startswith(f"{title}."):
                    found.append(process)
        return found

    def kill(self, title: str) -> list[psutil.Process]:
        """Kill the processes of that title, of which there is at least one, and return them."""
        victims: list[psutil.Process] = []

        def found() -> bool:
            victims[:] = self.find(title)
            return bool(victims)

        self._until(found)
        for victim in victims:
            with suppress(psutil.NoSuchProcess):  # a child of it that was about to become another
                victim.kill()
        return victims

    def wait_until_back(self, title: str, victims: list[psutil.Process]) -> None:
        """Return once there is another process of the title, and the service is well."""
        self._until(lambda: bool(set(self.find(title)) - set(victims)) and self.is_well())

    def is_well(self) -> bool:
        try:
            return bool(self.http.get("/health", timeout=5).json()["status"] == "ok")
        except (httpx.TransportError, ValueError, KeyError):
            return False

    def wait_until_well(self) -> None:
        self._until(self.is_well)

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + BACK_S
        while not condition():
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(POLL_S)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    mark = f"one-machine-{os.getpid()}"
    command = Command(tmp_path_factory.mktemp("one-machine"), mark)
    try:
        command.wait_until_well()
        command.learn()
        yield command
        command.process.terminate()
        assert command.process.wait(90) == 0, command.log.read_text()[-4000:]
        assert not left_running(mark)
    finally:
        command.process.kill()


@pytest.mark.parametrize("victims", ROWS, ids=", ".join)
def test_processes_of_the_machine_are_killed(command: Command, victims: list[str]) -> None:
    row = Row(command, f"`sa-ray serve`: {', then '.join(victims)}")

    for _, victim in zip(row.moments(len(victims)), victims, strict=True):
        killed_at = time.monotonic()
        killed = command.kill(TITLES[victim])
        row.fault_is_over()
        command.wait_until_back(TITLES[victim], killed)
        print(f"{victim}: well again {time.monotonic() - killed_at:.1f} s after the kill")

    row.finish()
    row.tidy()
