"""HAProxy as Serve starts it: with Serve's configuration, by our command, before one server."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from sa_ray.local import free_port


class Running(NamedTuple):
    port: int
    pid: int
    configuration: Path


def configuration(
    folder: Path,
    port: int,
    server: int | None,
    host: str = "127.0.0.1",
    *,
    is_drained: bool = False,
) -> Path:
    """Have Serve write its configuration: HAProxy on ``port``, a replica on ``server``; None: no
    application is deployed."""
    made = HAProxyConfig(
        http_options=HTTPOptions(host=host, port=port),
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_socket_path=str(folder / "metrics.sock"),
        is_head=True,
        has_received_routes=True,
        pass_health_checks=not is_drained,
        bufsize=65536,
    )
    backends = {}
    if server is not None:
        replica = ServerConfig(name="replica", host="127.0.0.1", port=server)
        backends["app"] = BackendConfig(
            name="app", path_prefix="/", app_name="app", servers=[replica]
        )
    path = folder / "haproxy.cfg"
    HAProxyApi(made, backends, config_file_path=str(path))._generate_config_file_internal()
    return path


@asynccontextmanager
async def haproxy(
    folder: Path, server: int, host: str = "127.0.0.1", *, is_drained: bool = False
) -> AsyncIterator[Running]:
    """HAProxy in front of ``server``, once it listens. ``host``: where it listens."""
    port = free_port()
    path = configuration(folder, port, server, host, is_drained=is_drained)
    with started(path) as process:
        while not listens(port):
            assert process.poll() is None
            await anyio.sleep(0.02)
        yield Running(port, process.pid, path)


@contextmanager
def started(
    path: Path, *arguments: str, stderr: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Start HAProxy with the configuration at ``path``."""
    command = Path(sys.executable).with_name("sa-ray-haproxy")
    with subprocess.Popen(
        [command, "-db", "-f", path, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def is_up(folder: Path) -> bool:
    """Whether HAProxy listens wherever it is to, as it tells at its socket for that."""
    with socket.socket(socket.AF_UNIX) as client:
        if client.connect_ex(str(folder / "admin.sock")):
            return False
        client.sendall(b"show info\n")
        return bool(client.recv(1))


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
