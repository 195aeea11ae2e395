"""Processes that outlive their starter, each with a log and a file that holds its id."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Processes:
    folder: Path

    def start(self, name: str, *command: str | Path) -> None:
        """Start ``command`` unless what ``name`` stands for is running."""
        if self._pid(name):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.folder / f"{name}.pid").write_text(f"{process.pid} {_started(process.pid)}")

    def stop(self, name: str) -> None:
        """End it, by SIGKILL if it takes longer than 20 s."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while pid := self._pid(name):
            os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.2)
        (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def running(self) -> list[str]:
        return [file.stem for file in self.folder.glob("*.pid") if self._pid(file.stem)]

    def _pid(self, name: str) -> int | None:
        """None if it has ended, even if another process has its id now."""
        try:
            pid, started = (self.folder / f"{name}.pid").read_text().split()
            return int(pid) if _started(int(pid)) == started else None
        except FileNotFoundError:
            return None


def _started(pid: int) -> str:
    """When it was started, in ticks since the machine was."""
    state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if state == "Z":
        raise FileNotFoundError
    return rest[18]
