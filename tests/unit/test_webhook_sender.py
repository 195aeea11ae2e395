"""Webhook calls to a real HTTP server."""

import base64
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from sa_ray.jobs import webhook_sender
from sa_ray.jobs.host_lookups import HostLookups
from sa_ray.jobs.public_addresses import is_metadata, is_public
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.jobs.webhook_sender import WebhookError, WebhookSender
from tests.support.webhook_receiver import Call, Receiver, receiving, respond, verified

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OPERATOR = WebhookSecrets([SECRET])
BODY = '{"type": "job.succeeded", "data": "\N{CLOUD}"}'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
async def sender() -> AsyncIterator[WebhookSender]:
    one = WebhookSender(OPERATOR, allow_private=True)
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
    receiver.answer = lambda handler, _: respond(handler, status)

    with pytest.raises(WebhookError, match=str(status)):
        await sender.send(receiver.url(), "msg_1", BODY)

    assert len(receiver.received) == 1


async def test_a_redirect_is_an_error_and_not_followed(
    receiver: Receiver, sender: WebhookSender
) -> None:
    receiver.answer = lambda handler, _: respond(handler, 307, Location=receiver.url())

    with pytest.raises(WebhookError, match="redirect"):
        await sender.send(receiver.url(), "msg_1", BODY)

    assert len(receiver.received) == 1


async def test_an_endless_answer_is_not_read_to_its_end(
    receiver: Receiver, sender: WebhookSender
) -> None:
    closed = threading.Event()

    def endless(handler: BaseHTTPRequestHandler, _: Call) -> None:
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

    def wait(_handler: BaseHTTPRequestHandler, _: Call) -> None:
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


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "localhost.", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
async def test_private_addresses_are_not_called(receiver: Receiver, host: str) -> None:
    guarded = WebhookSender(OPERATOR)

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
        "2002:7f00:1::", "2002:a00:1::", "fec0::1", "feff::1", "::127.0.0.1", "fe80::1%eth0",
        "64:ff9b:1::a00:1", "64:ff9b:1:a00::1:0:0", "64:ff9b:1:a00:0:100::", "2001:0:a00:1::1",
        "64:ff9b:1:a00:1:100:101:101", "64:ff9b:1::", "192.0.0.8", "192.88.99.1", "100.127.255.254",
        "198.19.255.255", "203.0.113.9", "198.51.100.9", "239.255.255.255",
        "3fff::1", "2001:2::1", "2001:20::1", "100::1", "5f00::1", "4000::1", "fd00::1",
        "::ffff:0:101:101", "::1.1.1.1", "fec0:0:0:ffff::1", "2002:c0a8:101::", "2002:e000:1::",
    ],
)  # fmt: skip
def test_an_address_inside_networks_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "2002:101:101::",
        "64:ff9b::101:101", "64:ff9b:1::101:101", "64:ff9b:1:5db8:d8:2200::", "168.63.129.17",
        "192.0.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "223.255.255.255",
        "2a00:1450:4001:82a::200e", "2001:4860:4860::8888", "2001:200::1",
    ],
)  # fmt: skip
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


METADATA = [
    "169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200", "169.254.170.2",
    "fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe", "fe80::a9fe:a9fe%eth0",
    "::ffff:169.254.169.254", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::1",
    "64:ff9b:1::c000:c0", "2002:6464:64c8::",
]  # fmt: skip


@pytest.mark.parametrize("address", METADATA)
def test_an_address_where_a_cloud_tells_secrets_is_known_in_every_form(address: str) -> None:
    assert is_metadata(address)
    assert not is_public(address)


@pytest.mark.parametrize("address", ["169.254.1.1", "10.0.0.1", "1.1.1.1", "fe80::1", "::1"])
def test_other_addresses_are_no_metadata(address: str) -> None:
    assert not is_metadata(address)


async def test_no_setting_lets_a_call_reach_where_a_cloud_tells_secrets() -> None:
    sender = WebhookSender(
        OPERATOR, allow_private=True, lookups=HostLookups(lambda _: ["127.0.0.1", METADATA[0]])
    )

    for host in ("innocent.test", "169.254.169.254", "[::ffff:169.254.169.254]"):
        with pytest.raises(WebhookError, match="clouds tell secrets") as refused:
            await sender.send(f"http://{host}/latest/meta-data/", "msg_1", BODY)
        assert refused.value.answered

    await sender.close()


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    lookups = HostLookups(lambda _: ["93.184.216.34", "10.0.0.1"])
    guarded = WebhookSender(OPERATOR, lookups=lookups)

    with pytest.raises(WebhookError, match="not public"):
        await guarded.send("http://innocent.test/", "msg_1", BODY)

    await guarded.close()


async def test_the_address_that_was_judged_is_the_one_that_is_called(receiver: Receiver) -> None:
    """A name that resolves otherwise a moment later (DNS rebinding) gains nothing."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    sender = WebhookSender(
        OPERATOR, allow_private=True, lookups=HostLookups(lambda _: next(answers))
    )

    await sender.send(receiver.url("rebinding.test"), "msg_1", BODY)

    [(_, headers, _)] = receiver.received
    assert headers["Host"] == f"rebinding.test:{receiver.port}"
    assert next(answers) == ["127.0.0.2"]
    await sender.close()


def secret(letter: str) -> str:
    return "whsec_" + base64.b64encode(letter.encode() * 32).decode()


async def test_a_receivers_own_secrets_sign_alone(receiver: Receiver) -> None:
    old, new, other = secret("o"), secret("n"), secret("x")
    sender = WebhookSender(OPERATOR, allow_private=True)
    url = receiver.url()

    await sender.send(url, "msg_1", BODY, OPERATOR.seal(url, [new, old]))
    await sender.send(url, "msg_2", BODY, OPERATOR.seal(url, [other]))
    await sender.send(url, "msg_3", BODY)

    changing_over, strangers, operators = receiver.received
    assert verified(changing_over, new, old, other, SECRET) == [True, True, False, False]
    assert verified(strangers, new, old, other, SECRET) == [False, False, True, False]
    assert verified(operators, new, old, other, SECRET) == [False, False, False, True]
    await sender.close()


async def test_the_operator_changes_over_with_two_signatures(receiver: Receiver) -> None:
    sender = WebhookSender(WebhookSecrets([secret("n"), SECRET]), allow_private=True)

    await sender.send(receiver.url(), "msg_1", BODY)

    [call] = receiver.received
    assert verified(call, secret("n"), SECRET, secret("x")) == [True, True, False]
    assert len(call.headers["webhook-signature"].split(" ")) == 2
    await sender.close()


async def test_a_secret_that_cannot_be_opened_makes_no_call_and_says_why(
    receiver: Receiver,
) -> None:
    sender = WebhookSender(WebhookSecrets([secret("n")]), allow_private=True)
    url = receiver.url()

    with pytest.raises(WebhookError, match="STABLE_AUDIO_WEBHOOK_SECRET"):
        await sender.send(url, "msg_1", BODY, OPERATOR.seal(url, [secret("r")]))

    assert receiver.received == []
    await sender.close()


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, str]:
    """What a server of ``name`` speaks TLS with, and its self-signed certificate in PEM."""
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
    pem = Path(f"{both}.crt").read_text()
    both.write_text(both.read_text() + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, pem


@pytest.mark.parametrize(
    ("name", "host", "trusted"),
    [("localhost", "localhost", True), ("localhost", "localhost.", True),
     ("other.test", "localhost", False)],
)  # fmt: skip
async def test_the_certificate_must_be_that_of_the_name_in_the_url(
    tmp_path: Path, name: str, host: str, trusted: bool
) -> None:
    context, authority = certificate(tmp_path, name)
    sender = WebhookSender(OPERATOR, allow_private=True, authorities=authority)

    with receiving(context) as receiver:
        url = receiver.url(host, "https")
        if trusted:
            await sender.send(url, "msg_1", BODY)
        else:
            with pytest.raises(WebhookError, match="certificate"):
                await sender.send(url, "msg_1", BODY)
        assert len(receiver.received) == trusted
    await sender.close()


async def test_an_authority_that_nobody_named_is_not_trusted(
    tmp_path: Path, sender: WebhookSender
) -> None:
    context, _ = certificate(tmp_path, "localhost")

    with receiving(context) as receiver:
        with pytest.raises(WebhookError, match="certificate"):
            await sender.send(receiver.url("localhost", "https"), "msg_1", BODY)
        assert receiver.received == []
