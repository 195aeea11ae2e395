"""Signals, taken one after another where the program waits for them."""

import select
import signal
import socket
from collections.abc import Iterable
from types import FrameType


class Signals:
    """From now on signals of these ``numbers`` do nothing but wait for ``next``.

    Those that were ignored (as ``nohup`` does with SIGHUP) still are. Only one in a process, made
    by the main thread.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._taken, written = socket.socketpair()
        written.setblocking(False)
        self._written = written
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            # Not blocked instead: libraries have threads of their own, which would be sent them.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _leave_to_next)

    def next(self, timeout_s: float) -> int:
        """Wait for a signal and return its number; 0 if none comes in time."""
        ready, _, _ = select.select([self._taken], [], [], timeout_s)
        return self._taken.recv(1)[0] if ready else 0


def _leave_to_next(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the interpreter has written the number for ``next`` already."""
