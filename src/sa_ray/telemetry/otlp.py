"""The OpenTelemetry SDK, as ``tracing`` uses it: imported only in processes that are traced."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attributes = Mapping[str, str | int | float]

Kind = Literal["internal", "server"]

SERVICE: Final = "sa-ray"

_KINDS: Final = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans and sends them in batches, from a thread. The environment configures it.

    Not the provider of the whole process: Ray may have its own.
    """

    def __init__(self) -> None:
        self._provider = TracerProvider(resource=_resource())
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("sa_ray")

    @contextmanager
    def span(
        self, name: str, parent: str | None, attributes: Attributes | None, kind: Kind
    ) -> Iterator[Span]:
        here = self._tracer.start_span(
            name, _context(parent), kind=_KINDS[kind], attributes=attributes
        )
        token = attach(set_span_in_context(here))
        try:
            yield here
        except BaseException as error:
            _fail(here, error)
            raise
        finally:
            detach(token)
            here.end()

    def record(
        self,
        name: str,
        parent: str | None,
        began: float,
        ended: float,
        attributes: Attributes | None,
        error: BaseException | None,
    ) -> None:
        over = self._tracer.start_span(
            name, _context(parent), attributes=attributes, start_time=_unix_ns(began)
        )
        if error is not None:
            _fail(over, error)
        over.end(_unix_ns(ended))

    def note_failure(self, error: BaseException) -> None:
        _fail(get_current_span(), error)

    def current_traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        """Send what was not sent yet; blocks."""
        self._provider.shutdown()


def _resource() -> Resource:
    told = Resource.create()
    if str(told.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        return told.merge(Resource({"service.name": SERVICE}))
    return told


def _context(parent: str | None) -> Context | None:
    if parent is None:
        return None
    return _PROPAGATOR.extract({"traceparent": parent})


def _fail(span: Span, error: BaseException) -> None:
    if not isinstance(error, Exception):
        span.set_attribute("sa_ray.cancelled", True)
        return
    # Not its message, which may quote what a client has sent.
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))


def _unix_ns(monotonic: float) -> int:
    return time.time_ns() - int((time.monotonic() - monotonic) * 1e9)
