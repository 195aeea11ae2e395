"""Bounds on any HTTP request: its body, and the ids it goes by.

Serve's proxy applies them before a request takes a slot of the ingress; the ingress applies them
again, for proxies that do not. Imports little: each proxy loads it.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from starlette.types import Message, Receive

from sa_ray.errors import (
    MalformedRequestError,
    PayloadTooLargeError,
    RequestTimeoutError,
    SaRayError,
)

Headers = Sequence[tuple[bytes, bytes]]

MAX_BODY_BYTES = 256 << 10
"""Largest body, bytes. The longest prompts, each character escaped, take about half of it."""

LARGER: Mapping[str, int] = MappingProxyType({"/jobs/batch": 4 << 20})
"""Largest bodies, bytes, where more is taken, by the end of the path. A thousand ordinary jobs take
some 200 KiB."""

BODY_GRACE_S = 10.0
"""Seconds that any body may take."""

MIN_BODY_RATE = 8 << 10
"""Bytes per second, on average, at which a body that takes longer has to come."""

MAX_UNFINISHED = 128
"""Bodies that are waited for at once. Each may hold ``MAX_BODY_BYTES``, and takes a slot where the
ingress has to wait for it."""

MAX_LARGER_UNFINISHED = 16
"""The same of bodies that may be larger, also in a burst: together they hold twice as much."""

BURST_S = 2.0
"""Seconds in which a body need not make room: those of a crowd come after all their heads."""

MAX_IN_BURST = 4 * MAX_UNFINISHED
"""Bodies of which the oldest has to make room even then."""

WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})
"""Methods whose requests have nothing to say in a body."""

MAX_LENGTH_DIGITS = 20
"""Most digits of a Content-Length that is read as a number: enough for any 64-bit size."""

MAX_ID = 128
"""Longest id of a request that is repeated or logged, characters."""

CLIENT_ID = b"x-client-request-id"
"""Header in which the id that the client gave goes on, beside ours."""


class ClientLeftError(Exception):
    """The client has gone before its request was complete: nobody waits for an answer."""


class UnfinishedBodies:
    """The bodies that are being read; one over ``MAX_UNFINISHED`` ends the wait for the oldest.

    So a client that sends its body at once gets through, however many others do not. Those that may
    be larger are counted apart, up to ``MAX_LARGER_UNFINISHED``.
    """

    def __init__(self) -> None:
        self._ordinary = _Waits(MAX_UNFINISHED, MAX_IN_BURST)
        self._larger = _Waits(MAX_LARGER_UNFINISHED, MAX_LARGER_UNFINISHED)

    async def read(self, receive: Receive, method: str, path: str) -> bytes:
        """Return the body of a request.

        Raises ``PayloadTooLargeError`` or ``MalformedRequestError`` at the first byte too many,
        ``RequestTimeoutError`` for one that comes too slowly or has to make room, and
        ``ClientLeftError``.
        """
        body = bytearray()
        most = largest_body(method, path)
        waits = self._larger if most > MAX_BODY_BYTES else self._ordinary
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(begun + BODY_GRACE_S) as wait:
                with waits.counted(wait, begun):
                    while True:
                        message = await receive()
                        if message["type"] != "http.request":
                            raise ClientLeftError
                        body += message.get("body", b"")
                        if len(body) > most:
                            raise _too_large(method, most)
                        if not message.get("more_body", False):
                            return bytes(body)
                        if wait in waits:
                            wait.reschedule(begun + BODY_GRACE_S + len(body) / MIN_BODY_RATE)
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"The body came too slowly: after {BODY_GRACE_S:.0f} s, {MIN_BODY_RATE} bytes per "
                "second are expected, and less time is given while many send theirs slowly. Send "
                "it again, at once.",
                retry_after_s=1,
            ) from error


class _Waits(dict[asyncio.Timeout, float]):
    """When each wait for a body began, oldest first; ``most`` of them, and ``in_burst``."""

    def __init__(self, most: int, in_burst: int) -> None:
        super().__init__()
        self._most = most
        self._in_burst = in_burst

    @contextlib.contextmanager
    def counted(self, wait: asyncio.Timeout, begun: float) -> Iterator[None]:
        while len(self) >= self._most:
            oldest, since = next(iter(self.items()))
            if begun - since < BURST_S and len(self) < self._in_burst:
                break
            del self[oldest]
            if not oldest.expired():
                oldest.reschedule(0)
        self[wait] = begun
        try:
            yield
        finally:
            self.pop(wait, None)


def largest_body(method: str, path: str) -> int:
    """Return the most bytes that the body of such a request may have."""
    if method in WITHOUT_BODY:
        return 0
    larger = (most for end, most in LARGER.items() if path.rstrip("/").endswith(end))
    return next(larger, MAX_BODY_BYTES)


def announces_body(method: str, headers: Headers, path: str) -> bool:
    """Return True if a body follows, which has to be read.

    Raises ``PayloadTooLargeError`` or ``MalformedRequestError`` if it is announced as too large.
    """
    named = dict(headers)
    length = named.get(b"content-length", b"").decode("latin-1").strip()
    # Python refuses to convert a text of thousands of digits to a number.
    if length.isdecimal():
        most = largest_body(method, path)
        if len(length) > MAX_LENGTH_DIGITS or int(length) > most:
            raise _too_large(method, most)
    return b"transfer-encoding" in named or length not in ("", "0")


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives ``body`` once, and then what ``receive`` does."""
    left = [body]

    async def receive_again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return receive_again


def is_sound_id(text: str) -> bool:
    """Return True if an id may be repeated: printable ASCII, at most ``MAX_ID`` characters."""
    return 0 < len(text.strip()) <= MAX_ID and all(" " <= letter <= "~" for letter in text)


def new_id() -> str:
    """Return an id for a request: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def error_messages(error: SaRayError, request_id: str) -> list[Message]:
    """Return the ASGI messages that answer with ``error`` in the shape of all errors."""
    told = {"code": error.code, "message": error.message, "param": error.param}
    body = json.dumps({"error": {**told, "request_id": request_id}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
    ]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    return [
        {"type": "http.response.start", "status": error.status, "headers": headers},
        {"type": "http.response.body", "body": body},
    ]


def _too_large(method: str, most: int) -> SaRayError:
    if method in WITHOUT_BODY:
        return MalformedRequestError(f"{method} takes no body here. Send it without one.")
    return PayloadTooLargeError(f"The body is larger than {most} bytes. Send less.")
