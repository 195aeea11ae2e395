"""A service of one's own: its configuration, its end, and what it leaves behind.

``serve run`` is stood in for: a module of its name that starts in no time, found before Ray's.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from sa_ray.local import LocalService, render_config

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

STAND_IN = """
import os, subprocess, sys, time
from pathlib import Path

folder = Path(os.environ["STAND_IN"])
(folder / "config.yaml").write_text(Path(sys.argv[-1]).read_text())
# Deaf to what ends its parent, as a process that hangs.
deaf = "from signal import *; signal(SIGINT, SIG_IGN); print(flush=True); pause()"
child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
child.stdout.readline()
try:
    (folder / "pids.part").write_text(f"{os.getpid()} {child.pid}")
    (folder / "pids.part").rename(folder / "pids")
    while True:
        time.sleep(0.05)
except KeyboardInterrupt:
    (folder / "in_order").touch()
"""


class StandIn:
    """What the stand-in for ``serve run`` tells of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"

    def pids(self) -> list[int]:
        """Process ids of ``serve run`` and of its child, once both run."""
        deadline = time.monotonic() + 30
        while not (self.folder / "pids").exists():
            assert time.monotonic() < deadline, "the stand-in did not start"
            time.sleep(0.02)
        return [int(pid) for pid in (self.folder / "pids").read_text().split()]


@pytest.fixture
def serve_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    package = tmp_path / "path" / "ray" / "serve"
    package.mkdir(parents=True)
    for module in (package.parent / "__init__.py", package / "__init__.py"):
        module.touch()
    (package / "scripts.py").write_text(STAND_IN)
    stand_in = StandIn(tmp_path)
    stand_in.temporary.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(stand_in.temporary))
    monkeypatch.chdir(tmp_path)
    yield stand_in
    for pid in stand_in.pids():
        gone(pid)


def gone(pid: int) -> bool:
    """Whether ``pid`` has ended, within the moment a killed process takes to; it has afterwards."""
    try:
        process = psutil.Process(pid)
        deadline = time.monotonic() + 10
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                process.kill()
                return False
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        pass
    return True


def test_stopping_ends_every_process_of_the_service(serve_run: StandIn, tmp_path: Path) -> None:
    with LocalService(tmp_path, {}):
        pids = serve_run.pids()

    assert (tmp_path / "in_order").exists()
    assert [pid for pid in pids if not gone(pid)] == []


def test_stopping_ends_what_a_service_that_died_left_behind(
    serve_run: StandIn, tmp_path: Path
) -> None:
    with LocalService(tmp_path, {}):
        pids = serve_run.pids()
        os.kill(pids[0], signal.SIGKILL)

    assert [pid for pid in pids if not gone(pid)] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_told_to_end_leaves_nothing(
    serve_run: StandIn, tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [str(BIN / "sa-ray"), "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as demo:
        pids = serve_run.pids()
        demo.send_signal(number)
        demo.communicate(timeout=60)

    assert demo.returncode == 128 + number
    assert [pid for pid in pids if not gone(pid)] == []
    assert list(serve_run.temporary.iterdir()) == []


def test_the_seed_servers_command_leaves_no_file_behind(serve_run: StandIn, tmp_path: Path) -> None:
    with subprocess.Popen(
        [str(BIN / "stable-audio-api"), "--host", "0.0.0.0", "--port", "9"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:
        pids = serve_run.pids()
        os.kill(pids[1], signal.SIGKILL)
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)

    assert pids[0] == server.pid, "signals reach `serve run` itself"
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["http_options"]["host"], config["http_options"]["port"]) == ("0.0.0.0", 9)
    assert list(serve_run.temporary.iterdir()) == []


def test_the_rendered_configuration_keeps_what_it_does_not_change() -> None:
    rendered = yaml.safe_load(
        render_config(ROOT / "serve_config.yaml", host="0.0.0.0", port=9, args={"max_steps": 3})
    )

    original = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    assert rendered["http_options"] == {**original["http_options"], "host": "0.0.0.0", "port": 9}
    assert rendered["applications"][0]["import_path"] == "sa_ray.app:build"
    assert rendered["applications"][0]["args"]["max_steps"] == 3


def test_settings_are_laid_over_this_application_only(tmp_path: Path) -> None:
    ours = {
        "name": "a",
        "import_path": "sa_ray.app:build",
        "args": {"max_steps": 1, "device": "cpu"},
    }
    other = {"name": "b", "import_path": "other:app", "args": {"max_steps": 1}}
    bare = {"name": "c", "import_path": "other:app"}
    source = tmp_path / "serve.yaml"
    source.write_text(yaml.safe_dump({"applications": [ours, other, bare]}))

    rendered = yaml.safe_load(render_config(source, host="h", port=9, args={"max_steps": 3}))

    assert rendered["applications"] == [
        {**ours, "args": {"max_steps": 3, "device": "cpu"}},
        other,
        bare,
    ]
