"""Run the service in a child process, on a Ray of its own, and stop it in order."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sa_ray.client import ApiError, Client
from sa_ray.local.configuration import CONFIG_NAME, Configuration
from sa_ray.local.ports import LocalServiceError, free_port
from sa_ray.local.private_ray import temporary_root
from sa_ray.local.server import Server

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
POLL_PERIOD_S = 0.25
LOG_TAIL_LINES = 30


STOPPING = {"graceful_shutdown_wait_loop_s": 0.1}
"""Serve waits so long for requests that may still come: here are none when it stops. By default it
is 2 s, for one kind of deployment after the other."""


AT_ONCE = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0"}
"""Nor is there another replica of the ingress that HAProxy would have to be told of."""


class LocalService:
    """Starts a Ray cluster of its own with the application on it, and stops both on exit.

    ``folder`` keeps the configuration and ``serve.log``. Nothing else on the machine is touched:
    another Ray cluster goes on as it was. Raises ``ConfigurationError`` for what ``build`` would
    refuse, before it starts anything.
    """

    def __init__(self, folder: Path, args: Mapping[str, Any], *, port: int | None = None) -> None:
        self.port = port or free_port()
        configuration = Configuration("127.0.0.1", self.port, args, options=STOPPING)
        self.settings = configuration.settings()
        self._suits_haproxy = configuration.suits_haproxy
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "serve.log"
        self._config = folder / CONFIG_NAME
        self._config.write_text(configuration.text)
        self._server: Server | None = None
        self._ray_folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        # A process on its way out may still write there.
        self._ray_folder = tempfile.TemporaryDirectory(
            prefix="sa-ray-", dir=temporary_root(), ignore_cleanup_errors=True
        )
        with self.log.open("wb") as log:
            folder = Path(self._ray_folder.name)
            self._server = Server(
                self._config, folder, log, haproxy=self._suits_haproxy, variables=AT_ONCE
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_until_ready(self) -> None:
        """Wait until every preloaded variant is up. Raises ``LocalServiceError`` with the end of
        the log if the process ends, or is not ready within three minutes."""
        deadline = time.monotonic() + START_TIMEOUT_S
        with Client(self.base_url, timeout_s=5, retry_s=0) as client:
            while time.monotonic() < deadline:
                if self._server is None or self._server.exit_code() is not None:
                    raise LocalServiceError(f"The service ended as it started.\n{self._tail()}")
                try:
                    if client.health().status != "starting":
                        return
                except (httpx.TransportError, ApiError):
                    pass
                time.sleep(POLL_PERIOD_S)
        raise LocalServiceError(
            f"The service was not ready after {START_TIMEOUT_S:.0f} s.\n{self._tail()}"
        )

    def stop(self) -> None:
        """Stop in order, within 30 s; then end whatever the service started and left behind."""
        server, self._server = self._server, None
        if server is None:
            return
        try:
            server.interrupt()
            server.wait(STOP_TIMEOUT_S)
        finally:
            server.end()
            if self._ray_folder:
                self._ray_folder.cleanup()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])
