"""A child process that goes with this one, however that ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

KILL_TIMEOUT_S: Final = 10.0
"""Longest wait for the end of a process that was killed: a GPU's memory takes a second to free."""


class ChildProcess:
    """Runs a module in a process of its own. ``parents_end.end_with_parent`` is for the module.

    Not by ``multiprocessing``, which would run the main module of this process in it, in a replica
    Ray's worker.
    """

    def __init__(self, module: str, arguments: Sequence[str], descriptor: int) -> None:
        """Start ``python -m module DESCRIPTOR PARENT *arguments``, with this environment.

        Raises ``OSError`` if no process can be started.
        """
        self._ended = threading.Event()
        started: Future[subprocess.Popen[bytes]] = Future()
        # The kernel ends it with the thread that started it. This one does nothing else but wait
        # for its end: that is soon known, and leaves no zombie.
        threading.Thread(
            target=self._watch,
            args=(started, [module, str(descriptor), str(os.getpid()), *arguments], descriptor),
            name="engine's process",
            daemon=True,
        ).start()
        self._process = started.result()

    @property
    def ending(self) -> str | None:
        """How it has ended; None: it has not."""
        if not self._ended.is_set():
            return None
        code = self._process.returncode
        if code >= 0:
            return f"ended with code {code}"
        return f"was ended by {_name_of(-code)}"

    def wait(self, timeout_s: float) -> str | None:
        """Return ``ending``, as soon as it has ended or ``timeout_s`` are over."""
        self._ended.wait(timeout_s)
        return self.ending

    def kill(self) -> None:
        """End it now, and wait until it has ended."""
        if not self._ended.is_set():
            self._process.kill()
            self._ended.wait(KILL_TIMEOUT_S)

    def _watch(
        self, started: "Future[subprocess.Popen[bytes]]", command: list[str], descriptor: int
    ) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - a module of our own
                [sys.executable, "-P", "-m", *command],
                stdin=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                # A Ctrl-C at a terminal is for this process, which ends the other.
                process_group=0,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        except BaseException as error:  # noqa: BLE001 - whatever it was, the caller waits
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()
        self._ended.set()


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # nearly all real-time signals have none
        return f"signal {number}"
