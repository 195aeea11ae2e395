"""Be HAProxy in front of Serve, with what Serve's configuration of it leaves open shut.

Serve runs ``RAY_SERVE_HAPROXY_BINARY_PATH`` in the place of HAProxy: this, as ``sa-ray-haproxy``,
where ``ray_environment`` is in the environment of a Ray node.
"""

import os
import re
import resource
import signal
import stat
import sys
from pathlib import Path

from sa_ray.errors import ConfigurationError
from sa_ray.parents_end import signal_at_parents_end
from sa_ray.serving.haproxy import binary
from sa_ray.serving.haproxy_rules import shut, unbound


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
            path.write_text(_told(text, path, is_reload="-sf" in arguments))
        except ConfigurationError as error:
            sys.exit(error.message)
    # Else it would keep the port from the next one if its manager is killed. It ends what it has.
    signal_at_parents_end(signal.SIGUSR1)
    if "RAY_RAYLET_PID" in os.environ and not _is_managed():
        sys.exit("The manager that started this has ended.")
    os.execv(haproxy, [haproxy, *arguments])  # noqa: S606 - Serve's own arguments


def _told(text: str, path: Path, *, is_reload: bool) -> str:
    """Return the configuration ``text``, without its port if Serve has not told yet what there is.

    It tells a moment after HAProxy has started, which would answer that nothing is deployed. Raises
    ``ConfigurationError`` if there is no application any more. A controller in the place of one
    that was lost tells of none until it has read what there is: HAProxy goes on as it was.
    """
    served = path.with_suffix(".served")
    if re.search(r"^backend (?!default_backend)", text, re.MULTILINE):
        served.touch()
    elif not is_reload:
        served.unlink(missing_ok=True)
        return unbound(text)
    elif served.exists():
        raise ConfigurationError("There is no application any more: HAProxy goes on as it was.")
    return text


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
