"""Keep a local Ray private: its token, its folder, and the addresses it listens on.

Whoever can call a Ray process can run code in it. So every call needs a token and a certificate
that only this user can read, and nothing but the replicas' own gRPC port, which wants them too,
listens beyond loopback.
"""

import logging
import os
import secrets
import stat
import sys
import tempfile
from pathlib import Path

from sa_ray.errors import ConfigurationError
from sa_ray.local.certificate import self_signed, write_private
from sa_ray.local.ports import free_port
from sa_ray.serving.haproxy import CALLBACK, files_under, ray_environment

logger = logging.getLogger(__name__)

PRIVATE_UMASK = 0o077

MOST_PATH_CHARS = 27
"""Of the folder of HAProxy's files: below it its sockets have names of up to 80 characters, while
it makes them, and Linux takes paths of 107."""

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

_DEFAULTS = {
    # Nobody reads the record of tasks without a dashboard; it grows by 8 MiB a minute under load.
    "RAY_task_events_report_interval_ms": "0",
    # Seconds between two looks of Serve at its HTTP proxy: how late it replaces one that died.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    # After 5 s, as Serve would have it, it kills one whose start a busy machine slows, and who
    # waits for that proxy fails.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK,
}
"""What the environment may say otherwise."""

_FOREIGN = (
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_REDIS_ADDRESS",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_external_storage_namespace",
)
"""Variables that name, open, or share the state of a cluster of somebody else's."""


def private_environment(folder: Path, *, haproxy: bool = True) -> dict[str, str]:
    """This process's environment with what keeps Ray private; Ray's files go under ``folder``.

    ``haproxy``: whether HAProxy can serve what is configured; else Serve's own proxy does.
    Makes a token and a certificate there, new for each Ray. Raises ``ConfigurationError`` if
    others can enter or replace ``folder``, or can put code into the working directory.
    """
    _require_private(folder)
    require_own_working_directory()
    made = self_signed()
    token = write_private(folder / _TOKEN_NAME, secrets.token_hex(32))
    certificate = write_private(folder / "tls.crt", made.certificate)
    key = write_private(folder / "tls.key", made.key)
    inherited = {name: text for name, text in os.environ.items() if name not in _FOREIGN}
    own = {
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_TMPDIR": str(folder),
        # The token alone is not enough: a call that crashes a process of Ray needs none, and
        # whoever then listens in its place would be sent it.
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(certificate),
        "RAY_TLS_SERVER_KEY": str(key),
        "RAY_TLS_CA_CERT": str(certificate),
    }
    front = _haproxy(folder) if haproxy else {}
    if front:
        own |= files_under(folder)
        # Another one than another local Ray's: two servers of one user can share a port.
        own["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] = str(free_port())
    else:
        own["RAY_SERVE_ENABLE_HA_PROXY"] = own["RAY_SERVE_ENABLE_DIRECT_INGRESS"] = "0"
    return _DEFAULTS | front | inherited | _SWITCHES | own | _without_proxies()


def _haproxy(folder: Path) -> dict[str, str]:
    """Have HAProxy hand requests to the service; empty if it cannot with files in ``folder``."""
    try:
        environment = ray_environment()
    except ConfigurationError as error:
        logger.info("%s", error.message)
        return {}
    if len(str(folder)) > MOST_PATH_CHARS:
        logger.warning(
            "HAProxy is not used: the paths of its sockets under %s are longer than a system "
            "takes. Set RAY_TMPDIR to a shorter one.",
            folder,
        )
        return {}
    return environment | {
        # Nobody reads them here.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # Long enough for the HAProxy beside a replica to hear that it goes.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    }


def server_folder() -> Path:
    """Make a folder for a server of this user, whose logs stay there after it.

    Raises ``ConfigurationError`` if there is no place that others can neither enter nor replace.
    """
    folder = temporary_root() / f"sa-ray-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _require_private(folder)
        return Path(tempfile.mkdtemp(prefix="", dir=folder))
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be made or used for the files of the local Ray ({error.strerror}). "
            "Set RAY_TMPDIR to a folder of yours."
        ) from error


def say_whose_code_runs() -> None:
    """Warn if another user can change what is run as this one; root may be meant to."""
    for path in (Path.cwd(), Path.cwd() / "serve_config.yaml"):
        if path.exists() and path.stat().st_uid not in (0, os.getuid()):
            logger.warning(
                "%s belongs to another user (%d), and the code that is found there, or that "
                "serve_config.yaml names, is run as you. If you do not trust that user, start "
                "from a folder of yours.",
                path,
                path.stat().st_uid,
            )
            return


def temporary_root() -> Path:
    """Return the folder in which Ray puts its own: short, as the paths of sockets are limited."""
    if chosen := os.environ.get("RAY_TMPDIR"):
        return Path(chosen).absolute()
    return Path("/tmp" if sys.platform == "darwin" else tempfile.gettempdir())  # noqa: S108


def _without_proxies() -> dict[str, str]:
    """Keep Ray's gRPC off proxies: all of it is on loopback."""
    names = ("no_proxy", "NO_PROXY")
    listed = next((os.environ[name] for name in names if os.environ.get(name)), "")
    loopback = "localhost,127.0.0.1,::1"
    return dict.fromkeys(names, f"{listed},{loopback}" if listed else loopback)


def _require_private(folder: Path) -> None:
    info = folder.lstat()
    mine = stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()
    if not mine or stat.S_IMODE(info.st_mode) & PRIVATE_UMASK:
        raise ConfigurationError(
            f"{folder} must be a folder that only you can enter (mode 0700), since it holds the "
            "token of the local Ray. Remove it, or set RAY_TMPDIR to another place."
        )
    for above in {*folder.absolute().parents, *folder.resolve().parents}:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"Everybody can replace what is in {above}, and so {folder}, which holds the token "
                "of the local Ray. Set its sticky bit (chmod +t), or RAY_TMPDIR to another place."
            )


def require_own_working_directory() -> None:
    """Raise ``ConfigurationError`` if everybody can put code into the working directory."""
    # Python finds modules there first, and `serve_config.yaml` names what is run.
    if Path.cwd().stat().st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"Everybody can write to {Path.cwd()}, and code in it would be run. Start from a "
            "folder of yours."
        )
