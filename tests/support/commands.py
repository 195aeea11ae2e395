"""Commands as a user types them, and what they leave behind."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import pexpect
import psutil

from sa_ray.cli import main

BIN = Path(sys.executable).parent

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


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


@dataclass
class Ended:
    """How a command of ``run_here`` ended, and what it printed."""

    returncode: int
    data: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        return self.data.decode()


def at_terminal(*arguments: str, cwd: Path, interrupt_at: str | None = None) -> tuple[str, int]:
    """Run `sa-ray` at a terminal; type Ctrl-C there once ``interrupt_at`` is to be seen.

    Return what was to be seen, without the codes that colour and move it, and the exit status.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STABLE_AUDIO_")}
    seen = io.StringIO()
    terminal = pexpect.spawn(
        str(BIN / "sa-ray"),
        list(arguments),
        cwd=cwd,
        env={**clean, "TERM": "xterm-256color"},
        dimensions=(24, 160),
        encoding="utf-8",
        timeout=150,
    )
    terminal.logfile_read = seen
    if interrupt_at:
        terminal.expect(interrupt_at)
        terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus is not None, seen.getvalue()
    return CODES.sub("", seen.getvalue()), terminal.exitstatus


def run_here(*arguments: str, cwd: Path, stdin: str = "") -> Ended:
    """Run `sa-ray` in this process, in a pipe: without the second that Python needs to start."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["sa-ray", *arguments], io.StringIO(stdin)
    status: object = None
    try:
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as ended:
        status = ended.code
    finally:
        sys.argv, sys.stdin = before
    assert isinstance(status, int)
    out.flush()
    return Ended(status, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


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


@contextmanager
def stopped(title: str) -> Iterator[None]:
    """The process of this title stands still meanwhile."""
    process = newest(title)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


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
