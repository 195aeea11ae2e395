"""Messages between two processes, with descriptors of files behind them."""

from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import IO, Any


class Channel:
    """One end of a stream socket. Each end is used by one thread at a time."""

    def __init__(self, descriptor: int) -> None:
        """Take over ``descriptor``, the socket's."""
        self._connection: Connection[Any, Any] = Connection(descriptor)

    def send(self, message: object, files: Sequence[IO[bytes]] = ()) -> None:
        """Send ``message``, then ``files``, which the caller closes. Raises ``OSError`` if the
        other end is gone."""
        self._connection.send(message)
        for file in files:
            send_handle(self._connection, file.fileno(), None)

    def has_message(self, timeout_s: float) -> bool:
        """Wait for a message or the end of the other side, at most ``timeout_s``."""
        return self._connection.poll(timeout_s)

    def receive(self) -> Any:
        """Return the next message. Raises ``EOFError`` or ``OSError`` if the other end is gone."""
        return self._connection.recv()

    def receive_file(self) -> int:
        """Return the descriptor of the next file; the caller closes it."""
        return recv_handle(self._connection)

    def close(self) -> None:
        self._connection.close()
