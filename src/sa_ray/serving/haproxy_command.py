"""Be HAProxy in front of Serve, with what Serve's configuration of it leaves open shut.

Serve runs ``RAY_SERVE_HAPROXY_BINARY_PATH`` in the place of HAProxy: this, as ``sa-ray-haproxy``,
where ``ray_environment`` is in the environment of a Ray node.
"""

import os
import re
import resource
import signal
import socket
import stat
import sys
from itertools import takewhile
from pathlib import Path

from sa_ray.errors import ConfigurationError
from sa_ray.parents_end import signal_at_parents_end
from sa_ray.serving.haproxy import binary
from sa_ray.serving.haproxy_rules import address, shut, unbound

APPLICATION = re.compile(r"^backend (?!default_|grpc_fallback_backend$)", re.MULTILINE)


def main() -> None:
    """Change the configuration that the arguments name, and become HAProxy."""
    arguments = sys.argv[1:]
    haproxy = binary()
    if haproxy is None:
        sys.exit("HAProxy is missing: install ray[serve].")
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        try:
            _require_own(path.parent)
            text = _within_limits(shut(path.read_text(), os.environ))
            path.write_text(_until_told(text, path, _replaced(arguments)))
        except ConfigurationError as error:
            sys.exit(error.message)
    # Else it would keep the port from the next one if its manager is killed. It ends what it has.
    signal_at_parents_end(signal.SIGUSR1)
    if "RAY_RAYLET_PID" in os.environ and not _is_managed():
        sys.exit("The manager that started this has ended.")
    os.execv(haproxy, [haproxy, *arguments])  # noqa: S606 - Serve's own arguments


def _replaced(arguments: list[str]) -> list[str]:
    if "-sf" not in arguments:
        return []
    return list(takewhile(str.isdigit, arguments[arguments.index("-sf") + 1 :]))


def _until_told(text: str, path: Path, replaced: list[str]) -> str:
    """Leave the port out of the configuration ``text`` until Serve has told what is deployed.

    It tells by a reload, a moment after the start: HAProxy would answer meanwhile that nothing is
    deployed. ``replaced``: ids of the processes that this one takes over from, the latest first.
    Raises ``ConfigurationError`` if the port is taken, or if the latest had an application and
    there is none any more. A controller in the place of one that was lost may tell of none until it
    has read what there is: HAProxy goes on as it was.
    """
    record = path.with_suffix(".served")
    served = set(record.read_text().split()) if record.exists() else set()
    if APPLICATION.search(text):
        record.write_text(" ".join([*served.intersection(replaced), str(os.getpid())]))
    elif not replaced:
        _require_free(*address(text))
        return unbound(text)
    elif replaced[0] in served:
        raise ConfigurationError("There is no application any more: HAProxy goes on as it was.")
    return text


def _require_free(host: str, port: int) -> None:
    """Raise ``ConfigurationError`` if HAProxy could not listen there, next to others of its kind.

    Serve tries again if the start fails, but not if a reload does. ``host``: an address, a name,
    or ``*``, which is all addresses of IPv4 to HAProxy.
    """
    listening = "0.0.0.0" if host == "*" else host  # noqa: S104 - HAProxy does
    try:
        family, *_, where = socket.getaddrinfo(listening, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                probe.setsockopt(socket.SOL_SOCKET, option, 1)
            probe.bind(where)
    except (OSError, UnicodeError) as error:  # the latter of what can be no name
        raise ConfigurationError(f"Port {port} of {host} cannot be had: {error}.") from error


def _is_managed() -> bool:
    """Return whether the parent is Serve's manager of HAProxy, not who inherited this from it."""
    try:
        return b"HAProxyManager" in Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        return False


def _require_own(folder: Path) -> None:
    """Raise ``ConfigurationError`` if another user can put a configuration into ``folder``."""
    for one in (folder, folder.parent):
        found = one.stat()
        if (
            found.st_uid not in (0, os.getuid())
            or found.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH
        ):
            raise ConfigurationError(
                f"{one} must be a folder that nobody else can write to, as HAProxy does what its "
                "files say. Have RAY_SERVE_HAPROXY_CONFIG_FILE_LOC and its likes name another."
            )


def _within_limits(configuration: str) -> str:
    """Have HAProxy take as many connections as it may open files: two each, and some."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return configuration
    room = max(1, (most - 100) * 2 // 5)
    return re.sub(
        r"(?<=^    maxconn )\d+",
        lambda found: str(min(int(found[0]), room)),
        configuration,
        flags=re.MULTILINE,
    )
