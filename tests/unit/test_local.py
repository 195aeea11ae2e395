"""A service of one's own: its configuration, its end, and what it leaves behind.

Ray is stood in for: a package of its name that starts in no time, found before the real one.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from sa_ray.errors import ConfigurationError
from sa_ray.local import (
    LocalService,
    LocalServiceError,
    free_port,
    render_config,
    require_free,
    server_environment,
)

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

RAY = """
import json, os
from pathlib import Path

def init(**options):
    umask = os.umask(0)
    os.umask(umask)
    seen = {"options": options, "environment": dict(os.environ), "umask": umask}
    Path(os.environ["STAND_IN"], "seen.json").write_text(json.dumps(seen))
"""

SERVE_SCRIPTS = """
import os, subprocess, sys, time
from pathlib import Path

def cli(arguments):
    folder = Path(os.environ["STAND_IN"])
    assert arguments[0] == "run"
    (folder / "config.yaml").write_text(Path(arguments[1]).read_text())
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
    """What the stand-in for Ray tells of itself."""

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

    def seen(self) -> dict[str, Any]:
        """What Ray was started with: ``options``, ``environment`` and ``umask``."""
        self.pids()
        found: dict[str, Any] = json.loads((self.folder / "seen.json").read_text())
        return found


@pytest.fixture
def serve_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    package = tmp_path / "path" / "ray" / "serve"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text(RAY)
    (package / "__init__.py").touch()
    (package / "scripts.py").write_text(SERVE_SCRIPTS)
    stand_in = StandIn(tmp_path)
    stand_in.temporary.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    for variable in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(variable, str(stand_in.temporary))
    monkeypatch.chdir(tmp_path)
    yield stand_in
    if (tmp_path / "pids").exists():
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


def test_ray_is_private_whatever_the_environment_says(
    serve_run: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "known to others")
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    monkeypatch.setenv("RAY_REDIS_ADDRESS", "192.0.2.1:6379")
    monkeypatch.setenv("RAY_USE_TLS", "0")
    monkeypatch.setenv("no_proxy", "intranet.test")

    with LocalService(tmp_path, {}):
        seen = serve_run.seen()
        token = Path(seen["environment"]["RAY_AUTH_TOKEN_PATH"])
        folder = token.parent

        assert len(token.read_text()) == 64
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    assert seen["options"]["address"] == "local"
    assert seen["options"]["include_dashboard"] is False
    assert seen["umask"] == 0o077
    assert seen["environment"]["RAY_AUTH_MODE"] == "token"
    assert seen["environment"]["RAY_TMPDIR"] == str(folder)
    assert seen["environment"]["NO_PROXY"] == "intranet.test,localhost,127.0.0.1,::1"
    assert seen["environment"]["RAY_USE_TLS"] == "1"
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_REDIS_ADDRESS"} & seen["environment"].keys()
    assert not folder.exists()


def test_each_server_has_a_folder_a_token_and_a_certificate_of_its_own(
    serve_run: StandIn,
) -> None:
    first, second = server_environment(), server_environment()

    for variable in ("RAY_AUTH_TOKEN_PATH", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY"):
        own, other = Path(first[variable]), Path(second[variable])
        assert own.read_text() != other.read_text() != ""
        assert stat.S_IMODE(own.stat().st_mode) == 0o600
    folder = Path(first["RAY_TMPDIR"])
    assert folder.parent == serve_run.temporary / f"sa-ray-{os.getuid()}"
    assert {stat.S_IMODE(one.stat().st_mode) for one in (folder, folder.parent)} == {0o700}


def test_a_working_directory_that_everybody_can_write_to_is_refused(
    serve_run: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.chdir(shared)

    with pytest.raises(ConfigurationError, match="code in it would be run"):
        server_environment()


def test_a_port_that_is_taken_is_named(serve_run: StandIn) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(LocalServiceError, match=f"127.0.0.1:{port} cannot be listened on"):
            require_free("127.0.0.1", port)


@pytest.mark.parametrize("trap", ["open to all", "a link to a folder of another"])
def test_a_folder_that_somebody_else_prepared_is_refused(
    serve_run: StandIn, tmp_path: Path, trap: str
) -> None:
    folder = serve_run.temporary / f"sa-ray-{os.getuid()}"
    if trap == "open to all":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError, match="only you can enter"):
        server_environment()


def test_the_old_servers_command_leaves_no_file_behind(serve_run: StandIn, tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen(
        [str(BIN / "stable-audio-api"), "--host", "0.0.0.0", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:
        pids = serve_run.pids()
        os.kill(pids[1], signal.SIGKILL)
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)

    assert pids[0] == server.pid, "signals reach `serve run` itself"
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["http_options"]["host"], config["http_options"]["port"]) == ("0.0.0.0", port)
    [private] = serve_run.temporary.iterdir()
    [server_folder] = private.iterdir()
    names = {path.name for path in server_folder.iterdir()}
    assert names == {"auth_token", "tls.crt", "tls.key"}


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
