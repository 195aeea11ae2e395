"""Ports of this machine that are free."""

import itertools
import secrets
import socket
from contextlib import suppress

from sa_ray.errors import SaRayError


class LocalServiceError(SaRayError):
    """The local service did not start."""

    code = "local_service_failed"


_PORTS = range(20_000, 30_000)
"""Above those of Ray's workers, below those that a system hands out or Serve's HAProxy uses."""

_turns = itertools.count(secrets.randbelow(len(_PORTS)))


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now, another one with each call.

    The system gives it to nobody who asks for any: until somebody listens there, Ray starts, and
    opens dozens of ports and connections. Raises ``LocalServiceError`` if none is free.
    """
    for turn in itertools.islice(_turns, len(_PORTS)):
        port = _PORTS[turn % len(_PORTS)]
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port
    raise LocalServiceError(f"No port of 127.0.0.1 from {_PORTS[0]} to {_PORTS[-1]} is free.")


def require_free(host: str, port: int) -> None:
    """Raise ``LocalServiceError`` if nothing can listen on ``port`` now.

    Serve would share the port with another server of this user, and each get some of the requests.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise LocalServiceError(
                f"{host}:{port} cannot be listened on ({error.strerror}): choose another --port."
            ) from error
