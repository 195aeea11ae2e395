"""One run of the service: a process with a private Ray, and all that it starts."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO

from sa_ray.local.private_ray import PRIVATE_UMASK, private_environment
from sa_ray.local.processes import end_session


class Server:
    """Serves ``config`` on a Ray whose files go under ``folder``, in a session of its own.

    Everything goes when the thread ends that made it, however that ends. ``log``: where its output
    goes; None: to that of this process. ``haproxy``: whether HAProxy can serve ``config``;
    ``variables``: of its environment. Raises ``ConfigurationError`` as ``private_environment``.
    """

    def __init__(
        self,
        config: Path,
        folder: Path,
        log: IO[bytes] | None = None,
        *,
        haproxy: bool = True,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", "sa_ray.local", str(config), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            env={**private_environment(folder, haproxy=haproxy), **variables},
            umask=PRIVATE_UMASK,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Exit code of the process, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the process to end; return False if it has not after ``timeout_s``."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Have it stop in order: Serve first, then Ray."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Kill whatever is left of it."""
        end_session(self._process.pid)
        self._process.wait()


def keep_logs(folder: Path) -> Path | None:
    """Remove what a Ray that has ended left in ``folder``, but for the logs of its last session.

    Return where those are; None if there are none.
    """
    sessions = sorted(path for path in folder.glob("ray/session_*") if not path.is_symlink())
    logs = sessions[-1] / "logs" if sessions else None
    kept = {folder / "ray", *sessions[-1:], logs}
    for entry in [*folder.glob("*"), *folder.glob("ray/*"), *folder.glob("ray/session_*/*")]:
        if entry in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return logs if logs and logs.is_dir() else None
