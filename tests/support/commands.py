"""Commands as a user types them, and what they leave behind."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STABLE_AUDIO_", "AWS_"))}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=cwd,
        env={**clean, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def newest(title: str) -> psutil.Process:
    """The youngest process that this one has started, or they, of which the title begins so.

    Others may still be on their way out. While an actor runs a method its title ends in
    ``.<method>``.
    """
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, IndexError):
            if process.cmdline()[0].startswith(title):
                found.append((process.create_time(), process.pid, process))
    return max(found)[-1]


MARK = "SA_RAY_TEST_MARK"
"""Variable that every process a command starts inherits, in whatever session it ends up."""


def marked(mark: str) -> dict[int, str]:
    """Process ids and names of what was started with ``mark``."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found[process.pid] = process.name()
        except psutil.Error:
            continue
    return found


def left_running(mark: str) -> dict[int, str]:
    """What still runs after the time that processes take to notice their parent's end."""
    deadline = time.monotonic() + 60
    while (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found
