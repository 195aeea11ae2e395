"""HAProxy with Serve's configuration as ``sa-ray-haproxy`` changes it, before a real server."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import psutil
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from sa_ray.errors import ConfigurationError
from sa_ray.local import free_port
from sa_ray.serving import client_address, http_connections
from sa_ray.serving.client_address import address_of, is_local
from sa_ray.serving.haproxy_peer import BehindHAProxy
from sa_ray.serving.haproxy_rules import MOST_OF_ONE, shut
from tests.support.asgi_server import served
from tests.support.haproxy import Running, configuration, haproxy, is_up, listens, started
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what is known of the caller."""
    headers = [name.decode() for name, _ in scope["headers"]]
    known = {
        "address": address_of(scope),
        "local": is_local(scope),
        "scheme": scope["scheme"],
        "forwarded": "x-forwarded-for" in headers,
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(known).encode()})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # as of uvicorn


@pytest.fixture(autouse=True)
def behind_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_address, "HIDDEN", True)


def behind(app: ASGIApp, *nodes: str) -> ASGIApp:
    alive = [{"NodeManagerAddress": node, "Alive": True} for node in nodes]
    return BehindHAProxy(app, lambda: alive)


@asynccontextmanager
async def in_front(folder: Path, app: ASGIApp, host: str = "127.0.0.1") -> AsyncIterator[Running]:
    async with served(app) as server, haproxy(folder, server, host=host) as running:
        yield running


def reloaded(folder: Path, replaced: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Start HAProxy in the place of the process ``replaced``, as Serve does."""
    socket_path = str(folder / "admin.sock")
    return started(folder / "haproxy.cfg", "-sf", str(replaced), "-x", socket_path)


async def ask(port: int, source: str = "127.0.0.1", **headers: str) -> Any:
    """Ask from ``source``, at its own address if that is none of the loopback."""
    at = "127.0.0.1" if client_address.is_loopback(source) else source
    transport = httpx.AsyncHTTPTransport(local_address=source)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.get(f"http://{at}:{port}/", headers=named)
    return answer.raise_for_status().json()


async def test_a_caller_on_this_machine_is_local(tmp_path: Path) -> None:
    async with in_front(tmp_path, behind(told)) as running:
        known = await ask(running.port)

    assert known == {"address": "127.0.0.1", "local": True, "scheme": "http", "forwarded": False}


async def test_a_caller_that_another_proxy_passed_on_is_not_local(tmp_path: Path) -> None:
    async with in_front(tmp_path, behind(told)) as running:
        known = await ask(running.port, X_Forwarded_For="203.0.113.7")
        forged = await ask(running.port, X_Forwarded_For="203.0.113.7, 127.0.0.1")

    assert known["address"] == forged["address"] == "203.0.113.7"
    assert not known["local"]
    assert not forged["local"]


def elsewhere() -> str:
    """An address of this machine that others could have: one that is not told by its loopback."""
    found = (one for each in psutil.net_if_addrs().values() for one in each)
    outside = [
        one.address
        for one in found
        if one.family == socket.AF_INET and not client_address.is_loopback(one.address)
    ]
    if not outside:
        pytest.skip("this machine has no address but 127.0.0.1: NO STRANGER CALLS")
    return outside[0]


async def test_each_address_of_the_loopback_is_local(tmp_path: Path) -> None:
    """A machine may resolve its own name to 127.0.1.1."""
    async with in_front(tmp_path, behind(told)) as running:
        known = await ask(running.port, "127.0.1.1")

    assert (known["address"], known["local"]) == ("127.0.1.1", True)


async def test_a_stranger_cannot_say_who_or_what_it_is(tmp_path: Path) -> None:
    stranger = elsewhere()
    async with in_front(tmp_path, behind(told), "0.0.0.0") as running:
        known = await ask(
            running.port, stranger, X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https"
        )
        own = await ask(running.port, X_Forwarded_Proto="https")

    assert (known["address"], known["local"], known["scheme"]) == (stranger, False, "http")
    assert own["scheme"] == "https"


async def test_the_haproxy_of_another_node_is_believed(tmp_path: Path) -> None:
    """uvicorn trusts 127.0.0.1 alone, from which HAProxy comes here: that stands for any node."""

    async def from_a_node(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-forwarded-for", b"203.0.113.7")]
        scope = {**scope, "client": ("10.1.1.1", 1234), "headers": headers}
        await behind(told, "10.1.1.1")(scope, receive, send)

    async def from_elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "client": ("10.1.1.2", 1234)}
        scope["headers"] = [(b"x-forwarded-for", b"127.0.0.1")]
        await behind(told, "10.1.1.1")(scope, receive, send)

    async with served(from_a_node) as port:
        known = await ask(port)
    async with served(from_elsewhere) as port:
        forged = await ask(port)

    assert (known["address"], known["local"], known["forwarded"]) == ("203.0.113.7", False, False)
    assert (forged["address"], forged["local"]) == ("10.1.1.2", False)


async def test_a_request_of_which_haproxy_did_not_tell_is_from_anywhere() -> None:
    """HAProxy without our rules has all requests come from this machine."""
    async with served(told) as port:
        assert not (await ask(port))["local"]


async def test_trusting_a_load_balancer_makes_nobody_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.8 is the load balancer; HAProxy itself, at 127.0.0.1, is not in the list."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.8")
    stranger = elsewhere()
    async with in_front(tmp_path, behind(told), "0.0.0.0") as running:
        known = await ask(running.port, stranger, X_Forwarded_For="127.0.0.1")
        through = await ask(running.port, "127.0.0.8", X_Forwarded_For="203.0.113.7")

    assert (known["address"], known["local"]) == (stranger, False)
    assert (through["address"], through["local"]) == ("203.0.113.7", False)


async def test_requests_go_on_while_ray_does_not_say_which_nodes_there_are(tmp_path: Path) -> None:
    silent = threading.Event()

    def never() -> list[dict[str, Any]]:
        silent.wait(30)
        return []

    with anyio.fail_after(20):
        async with in_front(tmp_path, BehindHAProxy(told, never)) as running:
            known = await ask(running.port)
            others = await ask(running.port, "127.0.0.9")
            silent.set()

    assert (known["address"], others["address"]) == ("127.0.0.1", "127.0.0.9")


async def test_one_address_cannot_have_all_connections(tmp_path: Path) -> None:
    async with in_front(tmp_path, told) as running:
        with ExitStack() as stack:
            at, source = ("127.0.0.1", running.port), ("127.0.0.9", 0)
            for _ in range(MOST_OF_ONE):
                stack.enter_context(socket.create_connection(at, source_address=source))
            with pytest.raises(httpx.TransportError):
                await ask(running.port, "127.0.0.9")
            known = await ask(running.port, "127.0.0.10")

    assert known["address"] == "127.0.0.10"


@pytest.mark.parametrize("is_drained", [False, True])
async def test_clients_that_keep_a_connection_to_a_node_that_goes_are_told_to_leave(
    tmp_path: Path, is_drained: bool
) -> None:
    async with (
        served(told) as server,
        haproxy(tmp_path, server, is_drained=is_drained) as running,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"http://127.0.0.1:{running.port}/")

    assert (answer.headers.get("connection") == "close") == is_drained


async def test_nobody_but_the_service_listens(tmp_path: Path) -> None:
    async with in_front(tmp_path, told) as running:
        sockets = psutil.Process(running.pid).net_connections()
        listening = {one.laddr for one in sockets if one.status == psutil.CONN_LISTEN}
        mode = stat.S_IMODE((tmp_path / "admin.sock").stat().st_mode)

    assert listening == {("127.0.0.1", running.port)}
    assert mode == 0o600


async def raw(port: int, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Send ``request``; return the status, the headers, and the JSON of the answer."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request)
        answer = b""
        with anyio.fail_after(30):
            while True:
                try:
                    answer += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    break
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, json.loads(body)["error"]


async def test_a_client_that_leaves_is_missed_at_once(tmp_path: Path) -> None:
    """Also if its body came in another packet than its head, as httpx sends it."""
    begun, left = asyncio.Event(), asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            await told(scope, receive, send)
            return
        while (message := await receive())["type"] != "http.disconnect":
            if not message.get("more_body"):
                begun.set()
        left.set()

    async with in_front(tmp_path, waits) as running:
        for _ in range(3):
            begun.clear()
            left.clear()
            async with await anyio.connect_tcp("127.0.0.1", running.port) as stream:
                await stream.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
                await anyio.sleep(0.05)
                await stream.send(b"{}")
                await begun.wait()
            with anyio.fail_after(10):
                await left.wait()


CLOSE = b"Host: x\r\nConnection: close\r\n\r\n"


async def test_a_lost_replica_is_told_in_the_shape_of_all_errors(tmp_path: Path) -> None:
    async def dies(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/-/healthz":
            await told(scope, receive, send)
        else:
            send.__self__.transport.abort()  # type: ignore[attr-defined]

    async with in_front(tmp_path, dies) as running:
        status, headers, error = await raw(running.port, b"GET / HTTP/1.1\r\n" + CLOSE)

    assert (status, error["code"]) == (502, "service_lost")
    assert error["request_id"] == headers["x-request-id"] != ""


async def test_a_service_that_starts_is_told_with_when_to_try_again(tmp_path: Path) -> None:
    async with haproxy(tmp_path, free_port()) as running:
        status, headers, error = await raw(running.port, b"GET / HTTP/1.1\r\n" + CLOSE)

    assert (status, error["code"], headers["retry-after"]) == (503, "unavailable", "5")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
async def test_nothing_is_answered_before_serve_has_told_what_is_deployed(
    tmp_path: Path, host: str
) -> None:
    """A new node shares its clients with others, which know."""
    async with in_front(tmp_path, told, host) as (port, *_):
        pass  # what was deployed in the time of an earlier manager is no more
    path = configuration(tmp_path, port, None, host)
    with started(path) as untold:
        await until(lambda: is_up(tmp_path))
        assert not listens(port)

        configuration(tmp_path, port, None, host)
        with reloaded(tmp_path, untold.pid):
            await until(lambda: listens(port))
            status, headers, error = await raw(port, b"GET /jobs/1 HTTP/1.1\r\n" + CLOSE)
            untold.wait()

    assert (status, error["code"], headers["retry-after"]) == (503, "not_deployed", "1")


async def test_a_head_larger_than_the_service_takes_reaches_its_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_connections.install()
    async with in_front(tmp_path, told) as running:
        large = b"GET / HTTP/1.1\r\nX-Much: " + b"x" * 40_000 + b"\r\n" + CLOSE
        status, _, error = await raw(running.port, large)

    assert (status, error["code"]) == (431, "headers_too_large")


def test_it_takes_no_more_connections_than_it_may_open_files(tmp_path: Path) -> None:
    path = configuration(tmp_path, free_port(), None)
    limited = "ulimit -n 1024; exec sa-ray-haproxy -c -f haproxy.cfg"
    bin_folder = str(Path(sys.executable).parent)
    ran = subprocess.run(
        ["sh", "-c", limited],
        cwd=tmp_path,
        env={"PATH": f"{bin_folder}:{os.environ['PATH']}"},
        check=False,
    )

    assert ran.returncode == 0
    assert "maxconn 369" in path.read_text()


async def test_it_goes_on_as_it_was_while_a_new_controller_tells_of_no_application(
    tmp_path: Path,
) -> None:
    async with in_front(tmp_path, told) as running:
        configuration(tmp_path, running.port, None)
        with reloaded(tmp_path, running.pid) as without:
            assert without.wait(30) == 1
        known = await ask(running.port)

        async with served(told) as server:
            configuration(tmp_path, running.port, server)
            with reloaded(tmp_path, running.pid) as with_another:
                await until(lambda: psutil.Process(running.pid).status() == psutil.STATUS_ZOMBIE)
                again = await ask(running.port)
                assert with_another.poll() is None

    assert known == again


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "127.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_a_port_that_another_program_has_is_told_at_the_start(
    tmp_path: Path, host: str, taken: str
) -> None:
    """Serve takes a HAProxy that has started for one that serves."""
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    try:
        other = socket.create_server((taken, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {taken}: NO PORT OF IT IS TAKEN")
    with other:
        path = configuration(tmp_path, other.getsockname()[1], None, host)
        with started(path, stderr=subprocess.PIPE) as process:
            _, said = process.communicate(timeout=30)

    assert process.returncode == 1
    assert b"Address already in use" in said


def test_a_folder_in_which_others_can_write_is_refused(tmp_path: Path) -> None:
    configuration(tmp_path, free_port(), None)
    tmp_path.chmod(0o777)
    ran = subprocess.run(
        [Path(sys.executable).with_name("sa-ray-haproxy"), "-c", "-f", tmp_path / "haproxy.cfg"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1
    assert "nobody else can write" in ran.stderr


def test_a_configuration_that_is_not_known_is_refused(tmp_path: Path) -> None:
    written = configuration(tmp_path, free_port(), None).read_text()

    with pytest.raises(ConfigurationError, match="RAY_SERVE_ENABLE_HA_PROXY=0"):
        shut(written.replace("mode 666", "mode 660"), {})


def test_what_an_operator_asks_for_stays(tmp_path: Path) -> None:
    written = configuration(tmp_path, free_port(), None).read_text()

    asked = {"RAY_SERVE_HAPROXY_METRICS_PORT": "9101", "FORWARDED_ALLOW_IPS": "10.0.0.0/8, lb"}
    changed = shut(written, asked)

    assert "frontend prometheus\n    bind :9101" in changed
    assert "del-header X-Forwarded-Proto if !{ src 10.0.0.0/8 }" in changed
    assert "X-Forwarded-Proto" not in shut(written, {"FORWARDED_ALLOW_IPS": "*"})


def test_a_host_that_can_be_no_name_is_refused(tmp_path: Path) -> None:
    path = configuration(tmp_path, free_port(), None, "a..b")
    with started(path, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=30)

    assert process.returncode == 1
    assert said.startswith(b"Port ")
