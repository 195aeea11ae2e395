"""Keep a local Ray private: its token, its folder, and the addresses it listens on.

Whoever can call a Ray process can run code in it. So every call needs a token that only this user
can read, and nothing but the replicas' own gRPC port, which wants the token too, listens beyond
loopback.
"""

import os
import secrets
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from sa_ray.errors import ConfigurationError

PRIVATE_UMASK = 0o077

_TOKEN_NAME = "auth_token"  # noqa: S105 - the name of a file

_SWITCHES = {
    "RAY_AUTH_MODE": "token",
    # Ray takes the loopback address for the node's on no other word (`_node_ip_address` is
    # resolved to one that others reach), and then listens on loopback alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Metrics are served without a token. These ports have no switch; -1 cannot be listened on.
    "RAY_enable_metrics_collection": "false",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}

_FOREIGN = ("RAY_ADDRESS", "RAY_AUTH_TOKEN")
"""Variables that name, or open, a cluster of somebody else's."""


def run_command(config: Path) -> list[str]:
    """The command line that serves ``config`` on a private Ray, in the right environment."""
    return [sys.executable, "-m", "sa_ray.local", str(config)]


def private_environment(folder: Path) -> dict[str, str]:
    """This process's environment with what keeps Ray private; Ray's files go under ``folder``.

    Makes the token there. Raises ``ConfigurationError`` if others can enter ``folder``.
    """
    _require_private(folder)
    token = folder / _TOKEN_NAME
    if not token.exists():
        _make_token(token)
    inherited = {name: text for name, text in os.environ.items() if name not in _FOREIGN}
    own = {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_TMPDIR": str(folder)}
    return inherited | _SWITCHES | own | _without_proxies()


def server_environment() -> dict[str, str]:
    """``private_environment`` for servers of this user: their logs stay after them."""
    folder = temporary_root() / f"sa-ray-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return private_environment(folder)


def temporary_root() -> Path:
    """Return the folder in which Ray puts its own: short, as the paths of sockets are limited."""
    if "RAY_TMPDIR" in os.environ:
        return Path(os.environ["RAY_TMPDIR"])
    return Path("/tmp" if sys.platform == "darwin" else tempfile.gettempdir())  # noqa: S108


def _without_proxies() -> dict[str, str]:
    """Keep Ray's gRPC off proxies: all of it is on loopback."""
    names = ("no_proxy", "NO_PROXY")
    listed = next((os.environ[name] for name in names if os.environ.get(name)), "")
    loopback = "localhost,127.0.0.1,::1"
    return dict.fromkeys(names, f"{listed},{loopback}" if listed else loopback)


def _make_token(token: Path) -> None:
    """Write a new token, whole or not at all; keep one that another process has just written."""
    with tempfile.NamedTemporaryFile("w", dir=token.parent) as file:
        file.write(secrets.token_hex(32))
        file.flush()
        with suppress(FileExistsError):
            token.hardlink_to(file.name)


def _require_private(folder: Path) -> None:
    info = folder.lstat()
    mine = stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()
    if not mine or stat.S_IMODE(info.st_mode) & PRIVATE_UMASK:
        raise ConfigurationError(
            f"{folder} must be a folder that only you can enter (mode 0700), since it holds the "
            "token of the local Ray. Remove it, or set RAY_TMPDIR to another place."
        )
