"""Webhook calls to a real HTTP server."""

import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from sa_ray.jobs import webhook_sender
from sa_ray.jobs.webhook_sender import WebhookError, WebhookSender, is_public, resolve

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"type": "job.succeeded", "data": "\N{CLOUD}"}'


@dataclass
class Receiver:
    """An HTTP server that answers every POST with ``answer``."""

    port: int = 0
    answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: respond(handler, 204)
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/hook?a=b"


def respond(
    handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append((self.path, dict(self.headers), body))
            receiver.answer(self)

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_args: None  # type: ignore[method-assign] # a refused handshake
        receiver.port = server.server_port
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
async def sender() -> AsyncIterator[WebhookSender]:
    one = WebhookSender(SECRET, allow_private=True)
    yield one
    await one.close()


async def test_a_call_carries_a_signature_that_verifies(
    receiver: Receiver, sender: WebhookSender
) -> None:
    await sender.send(receiver.url("localhost"), "msg_1", BODY)

    [(path, headers, body)] = receiver.received
    assert path == "/hook?a=b"
    assert headers["Host"] == f"localhost:{receiver.port}"
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == "msg_1"
    assert body.decode() == BODY
    Webhook(SECRET).verify(body, headers)
    with pytest.raises(Exception, match="signature"):
        Webhook(SECRET).verify(body + b" ", headers)


@pytest.mark.parametrize("status", [400, 404, 410, 500, 503])
async def test_an_answer_that_is_not_2xx_is_an_error(
    receiver: Receiver, sender: WebhookSender, status: int
) -> None:
    receiver.answer = lambda handler: respond(handler, status)

    with pytest.raises(WebhookError, match=str(status)):
        await sender.send(receiver.url(), "msg_1", BODY)

    assert len(receiver.received) == 1


async def test_a_redirect_is_an_error_and_not_followed(
    receiver: Receiver, sender: WebhookSender
) -> None:
    receiver.answer = lambda handler: respond(handler, 307, Location=receiver.url())

    with pytest.raises(WebhookError, match="redirect"):
        await sender.send(receiver.url(), "msg_1", BODY)

    assert len(receiver.received) == 1


async def test_an_endless_answer_is_not_read_to_its_end(
    receiver: Receiver, sender: WebhookSender
) -> None:
    closed = threading.Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65_536)
        except OSError:
            closed.set()

    receiver.answer = endless

    await sender.send(receiver.url(), "msg_1", BODY)

    assert closed.wait(30)


async def test_silence_is_an_error(
    receiver: Receiver, sender: WebhookSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()

    def wait(_handler: BaseHTTPRequestHandler) -> None:
        done.wait(60)

    receiver.answer = wait
    monkeypatch.setattr(webhook_sender, "TIMEOUT_S", 0.05)

    try:
        with pytest.raises(WebhookError, match="No answer"):
            await sender.send(receiver.url(), "msg_1", BODY)
    finally:
        done.set()


async def test_a_refused_connection_is_an_error(sender: WebhookSender) -> None:
    with receiving() as gone:
        url = gone.url()
    with pytest.raises(WebhookError, match="ConnectError"):
        await sender.send(url, "msg_1", BODY)


async def test_an_unknown_host_is_an_error(sender: WebhookSender) -> None:
    with pytest.raises(WebhookError, match="resolved"):
        await sender.send("http://does-not-exist.invalid/", "msg_1", BODY)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0"])
async def test_private_addresses_are_not_called(receiver: Receiver, host: str) -> None:
    guarded = WebhookSender(SECRET)

    with pytest.raises(WebhookError, match="STABLE_AUDIO_WEBHOOK_ALLOW_PRIVATE"):
        await guarded.send(receiver.url(host), "msg_1", BODY)

    await guarded.close()
    assert receiver.received == []


@pytest.mark.parametrize("url", ["ftp://example.org/", "/hook", "http://", "file:///etc/passwd"])
async def test_only_absolute_http_urls_are_called(sender: WebhookSender, url: str) -> None:
    with pytest.raises(WebhookError):
        await sender.send(url, "msg_1", BODY)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
        "::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2002:a00:1::",
    ],
)  # fmt: skip
def test_an_address_inside_networks_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


async def test_a_host_is_resolved_to_the_addresses_that_are_connected_to() -> None:
    assert await resolve(httpx.URL("https://1.1.1.1/"), allow_private=False) == ["1.1.1.1"]


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for ``name`` and its key, in one file."""
    both = folder / f"{name}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}", "-keyout", str(both), "-out", f"{both}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    both.write_text(both.read_text() + Path(f"{both}.crt").read_text())
    return both


@pytest.mark.parametrize(("name", "trusted"), [("localhost", True), ("other.test", False)])
async def test_the_certificate_must_be_that_of_the_name_in_the_url(
    tmp_path: Path, name: str, trusted: bool
) -> None:
    pem = certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    client = ssl.create_default_context(cafile=f"{pem}.crt")
    sender = WebhookSender(SECRET, allow_private=True, verify=client)

    with receiving(context) as receiver:
        url = receiver.url("localhost", "https")
        if trusted:
            await sender.send(url, "msg_1", BODY)
        else:
            with pytest.raises(WebhookError, match="certificate"):
                await sender.send(url, "msg_1", BODY)
        assert len(receiver.received) == trusted
    await sender.close()
