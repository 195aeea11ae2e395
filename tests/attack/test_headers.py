"""Headers that would lead Serve, that nobody can read, or that never end."""

import contextlib
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from .conftest import Target
from .raw import Answer, answer, asked, ends, flood, memory_of, opened

HELD_BY = ("haproxy", "ingress")

pytestmark = pytest.mark.attack

FOR_SERVE = ("X-Request-Timeout-Seconds", "X-Request-Disconnect-Disabled", "X-Session-Id",
             "serve_multiplexed_model_id", "Serve-Multiplexed-Model-Id")  # fmt: skip

LONG = {"prompt": "rain", "duration": 120, "steps": 50}


@contextlib.contextmanager
def a_job_that_does_not_end(target: Target) -> Iterator[str]:
    """The id of a job that waits for others."""
    with httpx.Client(base_url=target.service.base_url, timeout=30) as http:
        jobs = [http.post("/jobs", json=LONG).json()["id"] for _ in range(40)]
        try:
            yield jobs[-1]
        finally:
            for job in jobs:
                http.delete(f"/jobs/{job}")


def test_no_header_ends_a_request_early(target: Target) -> None:
    for value in ("0.000001", "-1", "nan", "x"):
        headers = {"X-Request-Timeout-Seconds": value}
        done = httpx.post(
            f"{target.service.base_url}/generate",
            json={"prompt": "a bell", "duration": 1},
            headers=headers,
            timeout=30,
        )

        assert done.status_code == 200, done.text


def test_no_header_keeps_a_request_of_a_client_that_left(target: Target) -> None:
    head = b"HTTP/1.1\r\nHost: localhost\r\nX-Request-Disconnect-Disabled: ?1\r\n\r\n"
    with a_job_that_does_not_end(target) as job:
        path = f"/jobs/{job}?wait=120"
        leaving = [opened(target.service.port, f"GET {path} ".encode() + head)
                   for _ in range(target.service.settings.limits.max_waiting_requests)]  # fmt: skip
        with httpx.Client(base_url=target.service.base_url, timeout=30) as http:
            refused = wait_for(http, f"/jobs/{job}?wait=1", 429)
            for connection in leaving:
                connection.close()
            taken = wait_for(http, f"/jobs/{job}?wait=1", 200)

    assert refused.status_code == 429
    assert (taken.status_code, taken.json()["status"]) == (200, "queued"), "an end was waited for"


def wait_for(http: httpx.Client, path: str, status: int) -> httpx.Response:
    """The answer to a GET of ``path`` once it has ``status``, or the last one within 20 s."""
    deadline = time.monotonic() + 20
    while (response := http.get(path)).status_code != status and time.monotonic() < deadline:
        time.sleep(0.1)
    return response


@pytest.mark.parametrize("value", [b"\xff\xfe", "å".encode(), b"\x80", b"x" * 10_000, b""])
def test_a_header_for_serve_is_not_even_read(target: Target, value: bytes) -> None:
    for name in FOR_SERVE:
        got = asked(target.service.port, b"GET /health HTTP/1.1", name.encode() + b": " + value)

        assert got.status == 200, (name, got.text)


@pytest.mark.parametrize(
    "lines",
    [
        [b"GET /health HTTP/1.1", b"X-\xff: a"],
        [b"GET /health HTTP/1.1", b"X-A: a\x00b"],
        [b"GET /health HTTP/1.1", b"X-A: a\rb"],
        [b"GET /health HTTP/1.1", b"X A: a"],
        [b"GET /health HTTP/1.1", b": a"],
        [b"GET /health HTTP/1.1", b"no colon"],
        [b"GET /\xff HTTP/1.1"],
        [b"NOTHING /health HTTP/1.1"],
        [b"POST /jobs HTTP/1.1", b"Content-Length: -1"],
        [b"POST /jobs HTTP/1.1", b"Content-Length: 1", b"Content-Length: 2"],
        [b"POST /jobs HTTP/1.1", b"Transfer-Encoding: gzip"],
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
    ],
    ids=repr,
)
def test_what_is_not_http_is_refused(target: Target, lines: list[bytes]) -> None:
    """By HAProxy, in its own words, or by the service behind it."""
    got = asked(target.service.port, *lines)

    assert 400 <= got.status < 500


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-Other: \xff\xfe"],
        [b"Traceparent: \xff"],
        [b"Last-Event-ID: \xff"],
        [b"Authorization: \xff"],
        [b"X-Forwarded-For: \xff", b"X-Forwarded-Proto: \xff"],
        [
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
        [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"],
    ],
    ids=repr,
)
def test_what_nobody_asks_for_is_ignored(target: Target, lines: list[bytes]) -> None:
    got = asked(target.service.port, b"GET /health HTTP/1.1", *lines)

    assert got.status == 200


def test_a_body_of_two_lengths_is_read_by_chunks_alone(target: Target) -> None:
    """What comes behind it is no request of its own: there is no smuggling."""
    lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    request = (
        b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + lengths
    )
    with opened(target.service.port, request + b"\r\n2\r\n{}\r\n0\r\n\r\n") as connection:
        got = answer(connection)

    assert (got.status, got.error["param"]) == (422, "prompt")


@pytest.mark.parametrize("head", [b"GET /health HTTP/1.1\r\nX-A: ", b"GET /"], ids=repr)
def test_a_head_without_end_is_refused_and_not_kept(target: Target, head: bytes) -> None:
    before = sum(memory_of(target.processes, *HELD_BY).values())

    with opened(target.service.port, head) as connection:
        flood(connection, (b"a" * (1 << 20) for _ in range(100)))
        refusal = answer_or_none(connection)
    after = sum(memory_of(target.processes, *HELD_BY).values())

    assert after - before < 20
    assert refusal is None or 400 <= refusal.status < 500


def answer_or_none(connection: object) -> Answer | None:
    """The answer, unless the connection's end came before it: more was sent than was read."""
    try:
        return answer(connection)  # type: ignore[arg-type]
    except ConnectionError:
        return None


def test_headers_are_bounded_in_number(target: Target) -> None:
    got = asked(target.service.port, b"GET /health HTTP/1.1", *(b"X-%d: a" % n for n in range(400)))

    assert 400 <= got.status < 500


@pytest.mark.parametrize("count", [1, 40])
def test_headers_are_bounded_whole(target: Target, count: int) -> None:
    lines = [b"X-%d: " % index + b"a" * (40_000 // count) for index in range(count)]

    got = asked(target.service.port, b"GET /health HTTP/1.1", *lines)

    assert (got.status, got.error["code"]) == (431, "headers_too_large")
    assert "32768" in got.error["message"]


def test_trailers_are_refused(target: Target) -> None:
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

    with opened(target.service.port, head, b"2\r\n{}\r\n0\r\nX-A: a\r\n\r\n") as connection:
        got = answer(connection)

    assert got.status in (400, 415)


def test_what_follows_a_request_does_not_reach_it(target: Target) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

    for more in (b"rubbish\r\n\r\n", b"DELETE /jobs/1 HTTP/1.1\r\n", b"\xff" * 100_000):
        with opened(target.service.port, request + more) as connection:
            assert answer(connection).status == 200
            # It is a request of its own, and none, or never whole.
            following = answer_or_none(connection)
            assert following is None or following.status in (400, 408)


def test_who_sends_no_request_is_closed(target: Target) -> None:
    port = target.service.port
    with (
        opened(port) as silent,
        opened(port, b"GET /health HTTP/1.1\r\nHost: ") as slow,
        opened(port, b"\r\n") as empty,
    ):
        assert ends(silent)
        for begun in (slow, empty):
            refusal = answer_or_none(begun)
            assert refusal is None or refusal.status == 408
            assert ends(begun)


def test_many_that_send_nothing_keep_nobody_out(target: Target) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(3000):
            held.enter_context(opened(target.service.port))
        health = httpx.get(f"{target.service.base_url}/health", timeout=30)

    assert health.status_code == 200


def test_a_request_has_an_id_of_ours_and_keeps_a_sound_one_of_its_own_beside(
    target: Target,
) -> None:
    sound = ["order 7", "x" * 128, "~"]
    unsound = [b"x" * 129, b"x" * 10_000, b"", b"  ", "å".encode(), b"\xff", b"a\tb"]

    for text in sound:
        got = asked(target.service.port, b"GET /v2 HTTP/1.1", b"X-Request-Id: " + text.encode())
        assert uuid.UUID(got.error["request_id"])
        assert got.headers["x-client-request-id"] == text
    for value in unsound:
        got = asked(target.service.port, b"GET /v2 HTTP/1.1", b"X-Request-Id: " + value)
        assert uuid.UUID(got.error["request_id"])
        assert "x-client-request-id" not in got.headers
