"""Telemetry: log lines as JSON, and traces."""

from sa_ray.telemetry.json_logging import JsonFormatter, configure_logging, log_context
from sa_ray.telemetry.tracing import (
    close_tracing,
    configure_tracing,
    current_traceparent,
    is_tracing,
    note_failure,
    record_span,
    span,
)

__all__ = [
    "JsonFormatter",
    "close_tracing",
    "configure_logging",
    "configure_tracing",
    "current_traceparent",
    "is_tracing",
    "log_context",
    "note_failure",
    "record_span",
    "span",
]
