"""A service of one's own: its configuration, its end, and what it leaves behind.

Ray is stood in for: a package of its name that starts in no time, found before the real one.
"""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from sa_ray.errors import ConfigurationError
from sa_ray.jobs.sqlite_file import Claim
from sa_ray.local import (
    Configuration,
    LocalService,
    LocalServiceError,
    free_port,
    require_free,
)
from sa_ray.local.private_ray import private_environment, server_folder
from sa_ray.serving.haproxy import ray_environment
from tests.support.commands import run

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

RAY = """
import json, os
from pathlib import Path

def init(**options):
    if "STAND_IN_BROKEN" in os.environ:
        raise SystemExit(3)
    umask = os.umask(0)
    os.umask(umask)
    seen = {"options": options, "environment": dict(os.environ), "umask": umask}
    Path(os.environ["STAND_IN"], "seen.json").write_text(json.dumps(seen))
"""

RAY_WORKER = """
import os
from pathlib import Path
from types import SimpleNamespace

class Node:
    def dead_processes(self):
        died = Path(os.environ["STAND_IN"], "raylet_died")
        if died.exists():
            died.unlink()
            return [("raylet", SimpleNamespace(returncode=-9))]
        return [("log_monitor", SimpleNamespace(returncode=1))]

global_worker = SimpleNamespace(node=Node())
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
        while "STAND_IN_DEAF" in os.environ:
            time.sleep(0.05)
"""


class StandIn:
    """What the stand-in for Ray tells of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"

    def pids(self, *, after: Sequence[int] = ()) -> list[int]:
        """Process ids of ``serve run`` and of its child, once both run, and are not ``after``."""
        deadline = time.monotonic() + 30
        while not (found := self._pids()) or found == after:
            assert time.monotonic() < deadline, "the stand-in did not start"
            time.sleep(0.02)
        return found

    def _pids(self) -> list[int]:
        path = self.folder / "pids"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    @contextmanager
    def served(self, *options: str, under: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
        """``stable-audio-api``, ended with all that it started."""
        command = [*under, str(BIN / "stable-audio-api"), "--port", str(free_port()), *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as command_process:
            try:
                yield command_process
            finally:
                command_process.kill()

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
    (package.parent / "_private").mkdir()
    (package.parent / "_private" / "worker.py").write_text(RAY_WORKER)
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
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()


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
    first, second = (private_environment(server_folder()) for _ in range(2))

    for variable in ("RAY_AUTH_TOKEN_PATH", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY"):
        own, other = Path(first[variable]), Path(second[variable])
        assert own.read_text() != other.read_text() != ""
        assert stat.S_IMODE(own.stat().st_mode) == 0o600
    folder = Path(first["RAY_TMPDIR"])
    assert folder.parent == serve_run.temporary / f"sa-ray-{os.getuid()}"
    assert {stat.S_IMODE(one.stat().st_mode) for one in (folder, folder.parent)} == {0o700}


@pytest.fixture
def near() -> Iterator[Path]:
    """A folder with a path as short as servers have."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_haproxy_has_its_files_where_nobody_else_can_enter(
    serve_run: StandIn, near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ray_environment().items():  # as `eval "$(sa-ray ray-env)"` does
        monkeypatch.setenv(name, value)

    environment = private_environment(near)

    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    names = ("CONFIG_FILE_LOC", "SOCKET_PATH", "METRICS_SOCKET_PATH", "SERVER_STATE_FILE")
    for name in names:
        file = Path(environment[f"RAY_SERVE_HAPROXY_{name}"])
        assert file.parent == Path(environment["RAY_TMPDIR"])


def test_serves_own_proxy_serves_what_haproxy_cannot(serve_run: StandIn, near: Path) -> None:
    environment = private_environment(near, haproxy=False)

    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "0"


def test_serves_own_proxy_is_one_variable_away(
    serve_run: StandIn, near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    environment = private_environment(near)

    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    # Or replicas would listen, and no proxy.
    assert environment["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "0"


def test_where_sockets_would_have_too_long_a_path_serves_own_proxy_serves(
    serve_run: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deep = serve_run.temporary / ("x" * 40)
    deep.mkdir(mode=0o700)
    environment = private_environment(deep)

    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert "RAY_TMPDIR" in caplog.text


def test_a_working_directory_that_everybody_can_write_to_is_refused(
    serve_run: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.chdir(shared)

    with pytest.raises(ConfigurationError, match="code in it would be run"):
        private_environment(server_folder())


def test_a_port_that_is_taken_is_named(serve_run: StandIn) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(LocalServiceError, match=f"127.0.0.1:{port} cannot be listened on"):
            require_free("127.0.0.1", port)


def test_a_free_port_is_one_that_the_system_gives_to_nobody_by_itself() -> None:
    """Ray opens dozens of those before Serve listens on ours."""
    handed_out = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]

    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50
    assert max(ports) < int(handed_out)


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
        server_folder()


def test_a_temporary_folder_that_everybody_can_replace_is_refused(
    serve_run: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = serve_run.temporary / "deeper" / "still"
    temporary.mkdir(parents=True)
    monkeypatch.setenv("RAY_TMPDIR", str(temporary))
    temporary.parent.chmod(0o777)

    with pytest.raises(
        ConfigurationError, match=re.escape(f"replace what is in {temporary.parent}")
    ):
        server_folder()

    temporary.parent.chmod(0o1777)
    private_environment(server_folder())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("given_away", [".", "serve_config.yaml"])
def test_code_of_another_user_is_not_run_silently(serve_run: StandIn, given_away: str) -> None:
    Path("serve_config.yaml").write_text((ROOT / "serve_config.yaml").read_text())
    os.chown(given_away, 12_345, 12_345)

    with serve_run.served() as server:
        serve_run.pids()
        server.terminate()
        _, errors = server.communicate(timeout=60)

    assert f"{Path(given_away).absolute()} belongs to another user (12345)" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_old_servers_command_stops_in_order_and_leaves_no_file_behind(
    serve_run: StandIn, tmp_path: Path, number: signal.Signals
) -> None:
    with serve_run.served("--host", "0.0.0.0") as server:
        pids = serve_run.pids()
        os.kill(pids[1], signal.SIGKILL)
        server.send_signal(number)
        server.communicate(timeout=60)

    assert server.returncode == 0
    assert (tmp_path / "in_order").exists()
    assert [pid for pid in pids if not gone(pid)] == []
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["http_options"]["host"] == "0.0.0.0"
    [private] = serve_run.temporary.iterdir()
    assert [list(folder.iterdir()) for folder in private.iterdir()] == [[]]


def test_a_second_signal_ends_the_command_at_once(
    serve_run: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DEAF", "1")
    with serve_run.served() as server:
        pids = serve_run.pids()
        server.send_signal(signal.SIGINT)
        while not (tmp_path / "in_order").exists():
            assert server.poll() is None
        # In the first few moments it is taken for the same one.
        while psutil.pid_exists(pids[0]):
            server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)

    assert server.returncode == 128 + signal.SIGTERM
    assert [pid for pid in pids if not gone(pid)] == []


def test_a_hangup_that_was_ignored_stays_so_and_the_rest_still_stops_in_order(
    serve_run: StandIn, tmp_path: Path
) -> None:
    background = ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh"]
    with serve_run.served(under=background) as server:
        first = serve_run.pids()
        server.send_signal(signal.SIGHUP)
        server.send_signal(signal.SIGINT)
        os.kill(first[0], signal.SIGKILL)
        second = serve_run.pids(after=first)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)

    assert server.returncode == 0
    assert (tmp_path / "in_order").exists()
    assert [pid for pid in second if not gone(pid)] == []


@pytest.mark.parametrize("fault", ["the service is killed", "Ray's raylet has died"])
def test_a_service_that_breaks_is_started_again_in_the_same_command(
    serve_run: StandIn, tmp_path: Path, fault: str
) -> None:
    with serve_run.served() as server:
        first = serve_run.pids()
        token = serve_run.seen()["environment"]["RAY_AUTH_TOKEN_PATH"]
        secret = Path(token).read_text()
        if fault == "the service is killed":
            os.kill(first[0], signal.SIGKILL)
        else:
            (tmp_path / "raylet_died").touch()
        second = serve_run.pids(after=first)

        assert [pid for pid in first if not gone(pid)] == []
        assert Path(token).read_text() != secret
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=60)

    assert server.returncode == 0
    assert "It is started again; its jobs are kept." in errors
    assert [pid for pid in second if not gone(pid)] == []


def test_a_service_that_cannot_be_started_ends_the_command(
    serve_run: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_BROKEN", "1")

    with serve_run.served() as server:
        _, errors = server.communicate(timeout=120)

    assert server.returncode == 1
    assert "has ended by itself (exit code 3). Given up after 3 starts." in errors


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
@pytest.mark.parametrize("command", ["demo", "serve"])
def test_a_command_that_is_killed_takes_its_service_along(
    serve_run: StandIn, command: str, number: signal.Signals
) -> None:
    options = ["--port", str(free_port())] if command == "serve" else []
    with subprocess.Popen([str(BIN / "sa-ray"), command, *options]) as process:
        pids = serve_run.pids()
        process.send_signal(number)
        try:
            process.wait(30)
        finally:
            process.kill()

    assert gone(pids[0])


def test_what_the_service_would_refuse_is_refused_before_it_is_started(
    serve_run: StandIn, tmp_path: Path
) -> None:
    demo = run("sa-ray", "demo", "--duration", "500", cwd=tmp_path)
    Path("serve_config.yaml").write_text(
        "applications: [{import_path: sa_ray.app:build, args: {max_stepz: 3}}]"
    )
    unknown = run("stable-audio-api", "--port", str(free_port()), cwd=tmp_path)
    Path("serve_config.yaml").write_text("applications: [")
    malformed = run("stable-audio-api", "--port", str(free_port()), cwd=tmp_path)

    for refused, hint in [
        (demo, "makes at most 120 s"),
        (unknown, "Did you mean max_steps"),
        (malformed, "serve_config.yaml cannot be read"),
    ]:
        assert refused.returncode == 1
        assert hint in " ".join(refused.stderr.split())
        assert "Traceback" not in refused.stderr
    assert not (tmp_path / "seen.json").exists()


def test_a_file_of_jobs_that_another_service_uses_is_named_before_anything_is_started(
    serve_run: StandIn, tmp_path: Path
) -> None:
    claim = Claim("sqlite:///.sa-ray/jobs.db")

    refused = run("stable-audio-api", "--port", str(free_port()), cwd=tmp_path)
    claim.release()

    assert refused.returncode == 1
    said = "".join(refused.stderr.split())
    assert f"{tmp_path}/.sa-ray/jobs.dbisinusebyanotherservice" in said
    assert "STABLE_AUDIO_JOBS_URL" in said
    assert not (tmp_path / "seen.json").exists()


def test_the_rendered_configuration_keeps_what_it_does_not_change() -> None:
    configuration = Configuration("0.0.0.0", 9, {"max_steps": 3}, ROOT / "serve_config.yaml")
    rendered = yaml.safe_load(configuration.text)

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

    rendered = yaml.safe_load(Configuration("h", 9, {"max_steps": 3}, source).text)

    assert rendered["applications"] == [
        {**ours, "args": {"max_steps": 3, "device": "cpu"}},
        other,
        bare,
    ]


def test_options_are_laid_over_each_deployment(tmp_path: Path) -> None:
    given = [{"name": "ingress", "num_replicas": 2, "graceful_shutdown_wait_loop_s": 9}]
    source = tmp_path / "serve.yaml"
    ours = {"name": "a", "import_path": "sa_ray.app:build", "deployments": given}
    source.write_text(yaml.safe_dump({"applications": [ours]}))
    options = {"graceful_shutdown_wait_loop_s": 0.5}

    rendered = yaml.safe_load(Configuration("h", 9, {}, source, options=options).text)

    deployments = {
        one.name: one
        for one in ServeDeploySchema.model_validate(rendered).applications[0].deployments
    }
    assert set(deployments) == {"ingress", "dispatcher", "small-sfx", "small-music", "medium"}
    assert {one.graceful_shutdown_wait_loop_s for one in deployments.values()} == {0.5}
    assert deployments["ingress"].num_replicas == 2


@pytest.mark.parametrize(
    ("host", "application", "ready", "alive"),
    [
        ("0.0.0.0", {"route_prefix": "/audio"}, "127.0.0.1:9/audio/health", "127.0.0.1:9"),
        ("::", {"route_prefix": "/"}, "[::1]:9/health", "[::1]:9"),
        ("10.0.0.7", {"import_path": "other:app"}, "10.0.0.7:9/-/healthz", "10.0.0.7:9"),
    ],
)
def test_a_service_is_asked_where_it_listens(
    tmp_path: Path, host: str, application: dict[str, str], ready: str, alive: str
) -> None:
    source = tmp_path / "serve.yaml"
    applications = [{"import_path": "sa_ray.app:build", **application}]
    source.write_text(yaml.safe_dump({"applications": applications}))

    configuration = Configuration(host, 9, {}, source)

    assert configuration.ready_url == f"http://{ready}"
    page = ready.removesuffix("health")
    assert configuration.page_url == (None if page == ready else f"http://{page}")
    assert configuration.alive_url == f"http://{alive}/-/healthz"
