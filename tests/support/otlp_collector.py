"""A collector that speaks OTLP over HTTP, as the SDK's own packages have it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

DEADLINE_S = 60.0

CLIENT_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
TRACEPARENT = f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"
"""Of a client that traces."""


@dataclass(frozen=True)
class Seen:
    """A span. ``began`` and ``ended``: Unix seconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    began: float
    ended: float
    failed: bool


class Collector:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.paths: set[str] = set()
        self._spans: list[Seen] = []
        self._grown = threading.Condition()

    @property
    def spans(self) -> list[Seen]:
        with self._grown:
            return list(self._spans)

    def take(self, path: str, body: bytes) -> None:
        taken = [
            _seen(span, _told(group.resource.attributes))
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._grown:
            self.paths.add(path)
            self._spans += taken
            self._grown.notify_all()

    def until(self, condition: Callable[[list[Seen]], bool]) -> list[Seen]:
        """Wait until what has come fulfils ``condition``; return it."""
        deadline = time.monotonic() + DEADLINE_S
        with self._grown:
            while not condition(self._spans):
                assert self._grown.wait(deadline - time.monotonic()), self._spans
            return list(self._spans)

    def named(self, *names: str) -> list[Seen]:
        """The spans of these names, one of each, once all have come."""
        seen = self.until(lambda spans: set(names) <= {span.name for span in spans})
        return [next(span for span in seen if span.name == name) for name in names]


def _seen(span: Span, resource: dict[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_told(span.attributes),
        resource=resource,
        began=span.start_time_unix_nano / 1e9,
        ended=span.end_time_unix_nano / 1e9,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
    )


def _told(attributes: Any) -> dict[str, Any]:
    def value(one: KeyValue) -> Any:
        return getattr(one.value, one.value.WhichOneof("value") or "string_value")

    return {one.key: value(one) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(self.path, body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
