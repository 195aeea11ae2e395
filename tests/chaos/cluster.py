"""A Ray cluster in processes of its own, to be killed in part or as a whole."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from sa_ray.local import free_port
from tests.support.secret_settings import SecretFiles

RETURN_TIMEOUT_S = 60.0
POLL_S = 0.05


class ServiceCluster:
    """The application on a cluster whose HTTP address outlives it."""

    def __init__(self, log: Path) -> None:
        self._port = free_port()
        self.base_url = f"http://127.0.0.1:{self._port}"
        self._log = log
        self._host: subprocess.Popen[str] | None = None
        self._clock = log.with_name("clock")
        self._clock.write_bytes(bytes(8))
        secrets = log.with_name("secrets")
        secrets.mkdir()
        self._secrets = SecretFiles(secrets)
        self._deployed: dict[str, Any] = {}
        self._bare_head = False

    def deploy(
        self, settings: dict[str, Any], *, bare_head: bool = False, breaking: Path | None = None
    ) -> None:
        """Have the application run with these settings, on such a cluster, and return then.

        ``breaking``: as for ``tests.support.broken_engine``.
        """
        if self._host is None or bare_head != self._bare_head:
            self._bare_head, self._deployed = bare_head, {}
            self.kill()
            self._start()
        wanted = {"settings": self._secrets.args(settings), "breaking": breaking and str(breaking)}
        if wanted != self._deployed:
            self._deployed = wanted
            self._tell("deploy", **wanted)

    def step_clock(self, seconds: float) -> None:
        """Set the wall clock of all processes of the cluster so much ahead of the true one."""
        with self._clock.open("r+b") as file:  # in place: they have it mapped
            file.write(struct.pack("d", seconds))

    def kill(self) -> None:
        """End every process of the cluster with SIGKILL."""
        if self._host is None:
            return
        processes = self._processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ProcessLookupError):  # what has lost its parent
            os.killpg(self._host.pid, signal.SIGKILL)
        self._host.wait()
        psutil.wait_procs(processes, timeout=RETURN_TIMEOUT_S)
        self._host = None

    def restart(self) -> None:
        """A new cluster in the place of one that was killed, with what was deployed."""
        self._start()
        self._tell("deploy", **self._deployed)

    def kill_process(self, name: str, chance: random.Random) -> None:
        """End one process of which an argument begins so; wait for it if there is none yet."""
        deadline = time.monotonic() + RETURN_TIMEOUT_S
        while True:
            alive = [process for process in self._processes() if _is_called(process, name)]
            if alive:
                with suppress(psutil.NoSuchProcess):
                    chance.choice(alive).kill()
                    return
            assert time.monotonic() < deadline, f"no {name} came back"
            time.sleep(POLL_S)

    def kill_worker_raylet(self) -> None:
        """Kill the raylet of a node that is not the head, and with it the node; add another."""
        self._tell("kill_worker_raylet")

    def _start(self) -> None:
        """A node of Ray's gives up if one of its agents takes 15 s to start: so try again."""
        for last in (False, False, True):
            self._spawn()
            try:
                self._answer()
            except AssertionError:
                self.kill()
                if last:
                    raise
            else:
                return

    def _spawn(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.cluster_host", str(self._port)]
        with self._log.open("ab") as log:
            self._host = subprocess.Popen(
                [*command, "bare_head" if self._bare_head else "head"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).parent / "stepped_clock"),
                    "SA_RAY_TEST_CLOCK": str(self._clock),
                    **self._secrets.variables,
                },
            )

    def _tell(self, command: str, **args: Any) -> None:
        assert self._host is not None
        assert self._host.stdin is not None
        print(json.dumps({"command": command, **args}), file=self._host.stdin, flush=True)
        self._answer()

    def _answer(self) -> None:
        """Wait for the host to have done what it was told."""
        assert self._host is not None
        assert self._host.stdout is not None
        line = self._host.stdout.readline()
        assert line, f"the cluster's host has ended:\n{self._log.read_text()[-4000:]}"

    def _processes(self) -> list[psutil.Process]:
        assert self._host is not None
        try:
            host = psutil.Process(self._host.pid)
            return [host, *host.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _is_called(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any(argument.startswith(name) for argument in process.cmdline())
    return False
