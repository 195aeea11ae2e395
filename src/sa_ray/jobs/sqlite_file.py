"""The SQLite file that a URL of the job store names, and its claim by one service at a time."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

from sa_ray.errors import JobStoreError

PREFIX = "sqlite:///"
LOCK_SUFFIX = ".lock"

PATIENCE_S = 5.0
"""Time that a service which is being replaced has to let go of the file."""

POLL_S = 0.05


def sqlite_url(path: Path, query: str = "") -> str:
    """Return the URL of a file, whatever characters its path has. ``query``: without ``?``."""
    return PREFIX + quote(str(path)) + (f"?{query}" if query else "")


def absolute_sqlite_url(url: str) -> str:
    """Resolve a relative path in ``url`` against the working directory; others stay as they are."""
    path = sqlite_path(url)
    if path is None or path.is_absolute():
        return url
    return sqlite_url(path.absolute(), url.partition("?")[2])


def sqlite_path(url: str) -> Path | None:
    """Return the file that ``url`` names; None if it is no SQLite URL, or one without a file."""
    encoded = url.removeprefix(PREFIX).partition("?")[0]
    if not url.startswith(PREFIX) or encoded in ("", ":memory:") or encoded.startswith("file:"):
        return None
    return Path(unquote(encoded))


class Claim:
    """Hold a SQLite file of jobs for this service, until this object or the process is gone.

    Two services on one file would run each other's jobs and put the audio where the other does not
    look. The lock is on a file beside it: opening and closing SQLite's own would drop its locks.
    Raises ``JobStoreError`` if another service holds the file longer than ``patience_s``. Where no
    lock can be had (a folder that cannot be written, a file system without locks) there is none,
    and SQLite says what is wrong.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        self._descriptor: int | None = None
        path = sqlite_path(url)
        if path is None:
            return
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Of the file itself, by whatever links it is reached.
            lock = path.resolve().with_name(path.resolve().name + LOCK_SUFFIX)
            self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if self._descriptor is not None:
            self._take(self._descriptor, path, time.monotonic() + patience_s)

    def _take(self, descriptor: int, path: Path, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self.release()
                    raise JobStoreError(
                        f"The job database {path.absolute()} is in use by another service, which "
                        "would take jobs of this one. Stop that service, or set "
                        "STABLE_AUDIO_JOBS_URL to a file that only this one uses.",
                        param="STABLE_AUDIO_JOBS_URL",
                    ) from None
                time.sleep(POLL_S)
            except OSError:
                return
            else:
                return

    def release(self) -> None:
        """Let another service have the file; repeats do nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()
