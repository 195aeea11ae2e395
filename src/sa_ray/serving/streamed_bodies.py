"""Bounds on bodies that are too large to be kept: the files that clients send.

They go through Serve's proxy as they come, where Serve would keep whatever the ingress has not yet
taken. So what stands in front of it passes on no more than ``WINDOW_BYTES`` ahead of what the
ingress says that it has taken.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterator

from starlette.types import Message, Receive, Scope, Send

from sa_ray.errors import OverloadedError, PayloadTooLargeError, RequestTimeoutError, SaRayError
from sa_ray.serving.client_address import address_of
from sa_ray.serving.request_bounds import MAX_LENGTH_DIGITS, ClientLeftError

UPLOADS = re.compile(r"(?:/[^/]+)*/v1/uploads/?")
"""Matches the path to which files are sent, under any prefix."""

FORMS = re.compile(
    r"(?:/[^/]+)*/(?:generate|v1/audio/(?:generations|variations|inpaint)"
    r"|jobs(?:/(?:variations|inpaint))?|v2beta/audio/stable-audio(?:-2)?/[a-z-]+)/?"
)
"""Matches the paths to which a form with a file may be sent, under any prefix."""

HEADER = b"x-upload-window"
"""Header that asks the ingress to say what it has taken."""

RELEASE = "sa_ray.body.release"
"""Key of a scope: call what is there once the body is no longer worked on."""

TAKEN = "sa_ray.body.taken"
"""Type of the ASGI message that says so, in ``bytes``: it is for what stands in front of Serve."""

WINDOW_BYTES = 1 << 20

MAX_AT_ONCE = 16
"""Bodies that come at once, or are worked on, in one process."""

MAX_OF_CLIENT = MAX_AT_ONCE // 2
"""Of those, how many may be of one client address."""

GRACE_S = 10.0
"""Seconds for which any body may be waited for."""

MIN_RATE = 64 << 10
"""Bytes per second, on average, at which a body that is waited for longer has to come."""

FAIR_RATE = 256 << 10
"""Bytes per second. Of bodies that come more slowly, the slowest has to make room for another."""

FAIR_AFTER_S = 2.0
"""Seconds of waiting after which the rate of a body is known."""

FRAMING_BYTES = 64 << 10
"""That a body may be larger than the file in it."""

RETRY_AFTER_S = 5


def is_streamed(scope: Scope) -> bool:
    """Return True if the body is a file, to be bounded here and not read whole."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path = scope["path"]
    return bool(UPLOADS.fullmatch(path) or (FORMS.fullmatch(path) and is_form(scope)))


def is_form(scope: Scope) -> bool:
    """Return True if the body is announced as a form, which may hold a file."""
    kind: bytes = dict(scope["headers"]).get(b"content-type", b"")
    return kind.strip().lower().startswith(b"multipart/form-data")


def file_too_large(max_mb: int) -> PayloadTooLargeError:
    """Return the error of a file of more than ``max_mb`` MiB."""
    return PayloadTooLargeError(
        f"The file is larger than {max_mb} MiB, the limit that STABLE_AUDIO_MAX_UPLOAD_MB sets. "
        "Cut it to the part that is to be edited, or send it as FLAC or MP3.",
        param="audio",
    )


class StreamedBody:
    """One body, as it comes. ``receive`` is that of its request, with bounds.

    ``others``: those that count, this one too until it is released.
    """

    def __init__(
        self,
        receive: Receive,
        client: str,
        max_mb: int | None,
        others: "set[StreamedBody]",
    ) -> None:
        self._receive = receive
        self._others = others
        self.client = client
        self._max_mb = max_mb
        self._waiting: asyncio.Timeout | None = None
        self._since = 0.0
        """Loop time from which on it waits."""
        self._waited_s = 0.0
        """Seconds of waits that are over: only the client's time counts."""
        self._complete = False
        self.size = 0
        """Bytes that have come."""

    async def receive(self) -> Message:
        """Return the next message.

        Raises ``PayloadTooLargeError`` at the first byte too many, ``RequestTimeoutError`` for a
        body that comes too slowly or has to make room, and ``ClientLeftError``.
        """
        if self._complete:
            return await self._receive()
        message = await self._next()
        if message["type"] != "http.request":
            raise ClientLeftError
        self.size += len(message.get("body", b""))
        if self._max_mb is not None and self.size > (self._max_mb << 20) + FRAMING_BYTES:
            raise file_too_large(self._max_mb)
        self._complete = not message.get("more_body", False)
        return message

    async def _next(self) -> Message:
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        left_s = GRACE_S + self.size / MIN_RATE - self._waited_s
        try:
            async with asyncio.timeout(left_s) as self._waiting:
                return await self._receive()
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"The file came too slowly: after {GRACE_S:.0f} s, {MIN_RATE} bytes per second are "
                f"expected, and {FAIR_RATE} while many send theirs. Send it again, or a smaller "
                "one.",
                retry_after_s=RETRY_AFTER_S,
            ) from error
        finally:
            self._waiting = None
            self._waited_s += loop.time() - self._since

    @property
    def rate(self) -> float:
        """Bytes per second of waiting; infinite if nothing is waited for, or not for long yet."""
        if self._waiting is None:
            return float("inf")
        waited_s = self._waited_s + asyncio.get_running_loop().time() - self._since
        return self.size / waited_s if waited_s >= FAIR_AFTER_S else float("inf")

    def release(self) -> None:
        """Let another body come in its place; no error if one does already."""
        self._others.discard(self)

    def make_room(self) -> None:
        """End the wait for the rest."""
        if self._waiting and not self._waiting.expired():
            self._waiting.reschedule(0)


class StreamedBodies:
    """The bodies that are coming or being worked on in this process. For one event loop."""

    def __init__(self, max_mb: int | None = None) -> None:
        """``max_mb``: MiB of the largest file, if it is known here."""
        self._max_mb = max_mb
        self._open: set[StreamedBody] = set()

    @contextlib.contextmanager
    def opened(self, scope: Scope, receive: Receive) -> Iterator[StreamedBody]:
        """Count a body while it comes and is worked on.

        Raises ``PayloadTooLargeError`` if it is announced as too large, and ``OverloadedError`` if
        too many are open and none of them comes slowly.
        """
        self._refuse_announced(scope)
        client = address_of(scope)
        if sum(one.client == client for one in self._open) >= MAX_OF_CLIENT:
            raise _too_many(f"{MAX_OF_CLIENT} uploads of your address")
        if len(self._open) >= MAX_AT_ONCE:
            slowest = min(self._open, key=lambda one: one.rate)
            if slowest.rate >= FAIR_RATE:
                raise _too_many(f"{MAX_AT_ONCE} uploads")
            slowest.make_room()
            slowest.release()
        body = StreamedBody(receive, client, self._max_mb, self._open)
        self._open.add(body)
        try:
            yield body
        finally:
            body.release()

    def _refuse_announced(self, scope: Scope) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"").decode("latin-1").strip()
        if self._max_mb is None or not length.isdecimal():
            return
        # Python refuses to convert a text of thousands of digits to a number.
        most = (self._max_mb << 20) + FRAMING_BYTES
        if len(length) > MAX_LENGTH_DIGITS or int(length) > most:
            raise file_too_large(self._max_mb)


class Window:
    """Passes a body on, no more than ``WINDOW_BYTES`` ahead of what the ingress has taken."""

    def __init__(self, body: StreamedBody, send: Send) -> None:
        self._body = body
        self._send = send
        self._taken = 0
        self._room = asyncio.Event()
        self.error: SaRayError | ClientLeftError | None = None
        """Why the body ended; what is inside hears that the client has left."""

    async def receive(self) -> Message:
        while self._body.size - self._taken >= WINDOW_BYTES:
            self._room.clear()
            await self._room.wait()
        if self.error is None:
            try:
                message = await self._body.receive()
                if not message.get("more_body", False):
                    # The ingress counts it until it has done with it.
                    self._body.release()
                return message
            except (SaRayError, ClientLeftError) as error:
                self.error = error
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == TAKEN:
            self._taken = message["bytes"]
            self._room.set()
        elif self.error is None:
            await self._send(message)


def telling(body: StreamedBody, send: Send) -> Receive:
    """Return the ``receive`` of ``body`` that says by ``send`` what was taken."""
    told = 0

    async def receive() -> Message:
        nonlocal told
        if body.size - told >= WINDOW_BYTES // 4:
            told = body.size
            await send({"type": TAKEN, "bytes": told})
        return await body.receive()

    return receive


def _too_many(what: str) -> OverloadedError:
    return OverloadedError(
        f"{what} are under way here already, as many as are taken at once. Try again in "
        f"{RETRY_AFTER_S} seconds.",
        retry_after_s=RETRY_AFTER_S,
    )
