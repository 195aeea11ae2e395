"""A service of one's own on this machine: ``serve run`` in a child process."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from sa_ray.client import ApiError, Client
from sa_ray.config import load_settings
from sa_ray.contracts import Health
from sa_ray.engines import resolve_engine_name
from sa_ray.errors import SaRayError

CONFIG_NAME = "serve_config.yaml"
IMPORT_PATH = "sa_ray.app:build"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
POLL_PERIOD_S = 0.25
LOG_TAIL_LINES = 30


class LocalServiceError(SaRayError):
    """The local service did not start."""

    code = "local_service_failed"


def find_config() -> Path:
    """``serve_config.yaml`` of the working directory, else the one that ships in the package."""
    own = Path(CONFIG_NAME)
    return own if own.is_file() else Path(str(files("sa_ray").joinpath(CONFIG_NAME)))


def render_config(source: Path, *, host: str, port: int, args: Mapping[str, Any]) -> str:
    """The YAML of ``source`` with another address, and ``args`` laid over those of this service.

    Other applications in it stay as they are.
    """
    config = yaml.safe_load(source.read_text())
    config["http_options"] = {**(config.get("http_options") or {}), "host": host, "port": port}
    for application in config["applications"]:
        if application["import_path"] != IMPORT_PATH:
            continue
        application["args"] = {**(application.get("args") or {}), **args}
    return yaml.safe_dump(config, sort_keys=False)


def hold(text: str) -> Path:
    """A path at which this process, and the one it becomes with ``exec``, reads ``text``.

    The file behind it has no name: it is gone with the process, however that ends.
    """
    with tempfile.TemporaryFile("w") as file:
        file.write(text)
        file.flush()
        descriptor = os.dup(file.fileno())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return Path(f"/dev/fd/{descriptor}")


def serve_command(config: Path, *options: str) -> list[str]:
    """The command line of ``serve run``, whether or not its script is on the ``PATH``."""
    return [sys.executable, "-m", "ray.serve.scripts", "run", *options, str(config)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class LocalService:
    """Starts a Ray cluster of its own with the application on it, and stops both on exit.

    ``folder`` keeps the configuration and ``serve.log``. Nothing else on the machine is touched:
    another Ray cluster goes on as it was. Raises ``ConfigurationError`` for what ``build`` would
    refuse, before it starts anything.
    """

    def __init__(self, folder: Path, args: Mapping[str, Any], *, port: int | None = None) -> None:
        resolve_engine_name(load_settings(args).engine)
        self.port = port or free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "serve.log"
        self._config = folder / CONFIG_NAME
        self._config.write_text(
            render_config(find_config(), host="127.0.0.1", port=self.port, args=args)
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                serve_command(self._config, "--address", "local"),
                stdout=log,
                stderr=subprocess.STDOUT,
                # A token would be written to the home folder, for a cluster nobody else joins.
                env={"RAY_AUTH_MODE": "disabled", **os.environ},
                # Of its own, so that `stop` can end whatever is left of it.
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_until_ready(self) -> Health:
        """Wait until every preloaded variant is up. Raises ``LocalServiceError`` with the end of
        the log if the process ends, or is not ready within three minutes."""
        deadline = time.monotonic() + START_TIMEOUT_S
        with Client(self.base_url, timeout_s=5) as client:
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    raise LocalServiceError(f"The service ended as it started.\n{self._tail()}")
                try:
                    health = client.health()
                    if health.status != "starting":
                        return health
                except (httpx.TransportError, ApiError):
                    pass
                time.sleep(POLL_PERIOD_S)
        raise LocalServiceError(
            f"The service was not ready after {START_TIMEOUT_S:.0f} s.\n{self._tail()}"
        )

    def stop(self) -> None:
        """Stop in order, within 30 s; then end whatever the service started and left behind."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])
