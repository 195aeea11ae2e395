"""Messages between two processes, each with a file if need be."""

import pickle
import socket
import struct
from collections.abc import Callable
from typing import IO, Any, Final, TypeVar

T = TypeVar("T")

PIECE_BYTES: Final = 1 << 16
"""Read at once: nearly every message."""

_LENGTH: Final = struct.Struct("!Q")


class Channel:
    """One end of a stream socket, for one thread at a time.

    A message, with its file, is one call of the system in either direction, and so is a wait: after
    each, a thread of a replica has to come by the interpreter lock again.
    """

    def __init__(self, end: socket.socket, timeout_s: float | None = None) -> None:
        """Take over ``end``. ``timeout_s``: longest wait for a message; None: for ever."""
        self._socket = end
        end.setblocking(True)
        if timeout_s is not None:  # by the kernel: Python's own timeout takes a call more
            seconds, rest = divmod(timeout_s, 1)
            value = struct.pack("@ll", int(seconds), round(1e6 * rest))
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)

    def send(self, message: object, file: IO[bytes] | None = None) -> None:
        """Send ``message`` with ``file``, which the caller closes.

        Raises ``OSError`` if the other end is gone.
        """
        data = pickle.dumps(message)
        data = _LENGTH.pack(len(data)) + data
        if file is None:
            self._socket.sendall(data)
        else:
            sent = socket.send_fds(self._socket, [data], [file.fileno()])
            self._socket.sendall(memoryview(data)[sent:])

    def receive(self, meanwhile: Callable[[], object] = lambda: None) -> tuple[Any, int]:
        """Return the next message, and the descriptor of its file, which the caller closes, or -1.

        ``meanwhile`` is called after each ``timeout_s`` without one; what it raises ends the wait.
        Raises ``EOFError`` or ``OSError`` if the other end is gone.
        """
        piece, files, _, _ = _patiently(
            lambda: socket.recv_fds(self._socket, PIECE_BYTES, 1), meanwhile
        )
        data = bytearray(piece)
        while piece and len(data) < _size(data):
            piece = _patiently(lambda: self._socket.recv(PIECE_BYTES), meanwhile)
            data += piece
        if not piece:
            raise EOFError
        message = pickle.loads(memoryview(data)[_LENGTH.size :])  # noqa: S301 - our own
        return message, files[0] if files else -1


def _patiently(receive: Callable[[], T], meanwhile: Callable[[], object]) -> T:
    while True:
        try:
            return receive()
        except BlockingIOError:
            meanwhile()


def _size(data: bytearray) -> int:
    """Return the bytes of a message that begins with ``data``, or at least more than those."""
    if len(data) < _LENGTH.size:
        return _LENGTH.size + 1
    (length,) = _LENGTH.unpack_from(data)
    return _LENGTH.size + int(length)
