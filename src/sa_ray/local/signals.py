"""Signals, taken one after another where the program waits for them."""

import select
import signal
import socket
from collections.abc import Iterable
from types import FrameType


class Signals:
    """From now on signals of these ``numbers`` do nothing but wait for ``next``.

    Those that were ignored (as ``nohup`` does with SIGHUP) are dropped; children are started with
    none ignored. Only one in a process, made by the main thread.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._taken, written = socket.socketpair()
        written.setblocking(False)
        self._written = written
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        # Not blocked instead: libraries have threads of their own, which would be sent them.
        before = {number: signal.signal(number, _leave_to_next) for number in numbers}
        self._ignored = {number for number, handler in before.items() if handler is signal.SIG_IGN}

    def next(self, timeout_s: float) -> int:
        """Wait for a signal and return its number; 0 if none comes in time."""
        ready, _, _ = select.select([self._taken], [], [], timeout_s)
        number = self._taken.recv(1)[0] if ready else 0
        return 0 if number in self._ignored else number


def _leave_to_next(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the interpreter has written the number for ``next`` already."""
