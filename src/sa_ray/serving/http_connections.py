"""Bound what a connection may hold before its request reaches any application.

uvicorn's server waits for a request's head for as long as it takes, and keeps as much of it as
comes. It has no settings for that, but lets its protocol be replaced.
"""

import asyncio
from typing import Any, ClassVar

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from sa_ray.errors import HeadersTooLargeError, MalformedRequestError, SaRayError
from sa_ray.serving.request_bounds import error_messages, new_id

HEAD_S = 10.0
"""Seconds from a connection, or from a request's first byte, to the end of the head."""

LINGER_S = 10.0
"""Seconds in which what is left of a refused body is read and dropped, so that its sender gets to
read the refusal; then the connection is closed."""

STALL_S = 60.0
STALL_BYTES = 16 << 10
"""A client that takes less of what waits for it than this in ``STALL_S`` seconds is cut off: else
it would have the server keep an answer for ever."""

MAX_HEAD_BYTES = 32 << 10
"""Largest head: request line and headers."""

MAX_WAITING = 1024
"""Connections that may be without a request at once; one more closes the oldest."""

MAX_UNTAKEN = 256
"""Connections whose clients may be behind at once, each with an answer of up to 2 MB; one more cuts
off the one that has taken nothing for longest."""


class BoundedConnection(HttpToolsProtocol):
    """A connection with a deadline for each head, a bound for its size, and no WebSockets.

    Its client has to take what is sent.

    It answers what it refuses in the shape of all errors, where uvicorn would in plain text. What a
    client sends ahead of an answer is dropped, and the connection closed after that answer: uvicorn
    would keep any number of requests, and not tell the one in work that its client has left.
    """

    waiting: ClassVar[dict["BoundedConnection", asyncio.TimerHandle]] = {}
    """Connections that have to send something, oldest first, and when they are closed."""

    untaken: ClassVar[dict["BoundedConnection", asyncio.TimerHandle]] = {}
    """Connections that have to take something, longest behind first, and when that is checked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: int | None = None
        """Bytes of the head that is being read; None in between."""
        self._silent = 0
        """Bytes read since the parser last made something of them: it keeps them till then."""
        self._refusal: SaRayError | None = None
        self._deaf = False
        """Whether all that comes is dropped."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._watch_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if not self._works() and self not in self.waiting:
            self._wait(HEAD_S)
        self._silent += len(data)
        super().data_received(data)
        if self._silent > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refusal = _too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        if self._works():
            self.cycle.keep_alive = False
            self._deaf = True
            self._refuse(MalformedRequestError("A request came ahead of an answer."))
        super().on_message_begin()
        self._head = 0

    def on_url(self, url: bytes) -> None:
        self._add(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:
            self._refuse(MalformedRequestError("Trailers are not taken. Leave them out."))
        self._add(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head, self._silent = None, 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._silent = 0
        super().on_message_complete()
        if self.cycle.response_complete:  # the rest of a refused body has come
            self._wait(HEAD_S)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch()
        if self.cycle.response_complete and self.cycle.more_body:
            self._wait(LINGER_S)

    def send_400_response(self, msg: str) -> None:
        if self._deaf:
            return
        if not self._works() or not self.cycle.response_started:
            refusal = self._refusal or MalformedRequestError("This is no valid HTTP/1.1 request.")
            start, body = error_messages(refusal, new_id())
            lines = [b"%b: %b\r\n" % header for header in start["headers"]]
            head = [STATUS_LINE[refusal.status], *lines, b"connection: close\r\n\r\n"]
            self.transport.write(b"".join([*head, body["body"]]))
        self.close()

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _works(self) -> bool:
        """Return True if there is a request whose answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def _add(self, size: int) -> None:
        self._silent = 0
        self._head = (self._head or 0) + size
        if self._head > MAX_HEAD_BYTES:
            self._refuse(_too_large())

    def _refuse(self, error: SaRayError) -> None:
        """End the parsing; ``send_400_response`` is called then."""
        self._refusal = error
        raise error

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        if len(self.waiting) >= MAX_WAITING:
            next(iter(self.waiting)).close()
        self.waiting[self] = self.loop.call_later(seconds, self.close)

    def _stop_waiting(self) -> None:
        if handle := self.waiting.pop(self, None):
            handle.cancel()

    def close(self) -> None:
        """End the connection, once what was written is sent."""
        self._stop_waiting()
        self.transport.close()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        self.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._watch_no_more()

    def _watch(self) -> None:
        """Cut the connection off if its client does not take what waits for it."""
        self._watch_no_more()
        if not (waits := self.transport.get_write_buffer_size()):
            return
        if len(self.untaken) >= MAX_UNTAKEN:
            next(iter(self.untaken)).cut()
        self.untaken[self] = self.loop.call_later(STALL_S, self._cut_or_watch, waits)

    def _watch_no_more(self) -> None:
        if handle := self.untaken.pop(self, None):
            handle.cancel()

    def _cut_or_watch(self, waited: int) -> None:
        if waited - self.transport.get_write_buffer_size() < STALL_BYTES:
            self.cut()
        else:
            self._watch()

    def cut(self) -> None:
        """End the connection at once, whatever waits to be sent."""
        self._watch_no_more()
        self.transport.abort()


def install() -> None:
    """Let the servers that are made in this process from now on bound their connections."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedConnection.__name__}"


def _too_large() -> SaRayError:
    return HeadersTooLargeError(
        f"The request line and headers take more than {MAX_HEAD_BYTES} bytes. Send fewer."
    )
