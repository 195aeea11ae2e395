"""The process that reads clients' files, since a file may crash the library that reads it.

Run by ``reading_pool`` with the descriptor of a socket, over which requests and answers go as lines
of JSON, each request with two files. It ends when the socket is closed.
"""

import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, Final

from sa_ray.audio.reading import convert
from sa_ray.errors import InvalidRequestError

MEMORY_BYTES: Final = 1 << 30
"""Of addresses, most of which the libraries take."""

TARGET_BYTES: Final = 512 << 20
MAX_FILES: Final = 64


def answer(request: dict[str, Any], source: int, target: int) -> dict[str, Any]:
    """Convert a file; return what ``convert`` does, or ``refusal`` with its message."""
    try:
        return convert(source, target, request["max_seconds"]).model_dump()
    except InvalidRequestError as error:
        return {"refusal": error.message}
    except MemoryError:
        return {"refusal": "The file takes more memory to read than any needs that is taken here."}


def main() -> None:
    """Answer requests until the other side has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C ends the service, which closes this
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_FSIZE, TARGET_BYTES)
    _limit(resource.RLIMIT_NOFILE, MAX_FILES)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        while True:
            line, files, _, _ = socket.recv_fds(connection, 1 << 16, 2)
            if not line:
                return
            request = json.loads(line)
            # Whoever asked has given up by then, and may be gone.
            signal.setitimer(signal.ITIMER_REAL, request["limit_s"])
            try:
                told = answer(request, *files)
            finally:
                for file in files:
                    os.close(file)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.sendall(json.dumps(told).encode() + b"\n")


def _limit(kind: int, most: int) -> None:
    with suppress(ValueError, OSError):  # lower already, or unknown to the system
        resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    main()
