"""Processes as the kernel keeps them: orphans, and the rest of a session."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

END_TIMEOUT_S = 10.0
POLL_S = 0.02


def end_session(leader: int) -> None:
    """Kill every process of the session that ``leader`` began; return when they have ended.

    Ray's workers have process groups of their own, and some lose their parent: what they have in
    common is the session.
    """
    if not Path("/proc/self/stat").exists():
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
        return
    deadline = time.monotonic() + END_TIMEOUT_S
    while (members := _members(leader)) and time.monotonic() < deadline:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def reap_orphans(keep: int) -> None:
    """Take note of the end of processes that were given to this one, as the first of a container.

    ``keep``: the child whose end another part of this process waits for.
    """
    with suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in (0, keep):
                return
            os.waitpid(ended.si_pid, 0)


def _members(leader: int) -> list[int]:
    """Process ids of the session, without those that have ended and whose parent has not asked."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            # The name, in parentheses, may hold anything.
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(entry.name))
    return found
