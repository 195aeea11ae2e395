"""Traces: spans of what this project does, sent by OTLP where the environment says where to.

The standard ``OTEL_*`` variables of each process configure it. Without an endpoint among them
nothing is imported, and a span costs next to nothing.
"""

import asyncio
import importlib.util
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from sa_ray.telemetry.otlp import Attributes, Kind, Tracing

logger = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

EXPORTER: Final = "opentelemetry.exporter"
"""Package that the extra `otel` brings; the SDK itself comes with Ray."""

CLOSE_TIMEOUT_S: Final = 3.0
"""Longest wait for a collector that takes the last spans of a process."""

_tracing: "Tracing | None" = None

_NO_SPAN: Final = nullcontext(None)


def configure_tracing() -> None:
    """Trace this process if its environment names an endpoint; repeats do nothing.

    Logs a warning if the extra ``otel`` is missing. Its endpoint speaks OTLP over HTTP.
    """
    global _tracing
    if _tracing is not None or not _is_wanted():
        return
    if not _is_installed():
        logger.warning(
            "No traces: %s is set, and the extra `otel` is not installed.",
            " or ".join(name for name in ENDPOINTS if os.environ.get(name)),
        )
        return
    from sa_ray.telemetry.otlp import Tracing

    _tracing = Tracing()


def is_tracing() -> bool:
    return _tracing is not None


def span(
    name: str,
    parent: str | None = None,
    attributes: "Attributes | None" = None,
    kind: "Kind" = "internal",
) -> "AbstractContextManager[Span | None]":
    """Have what runs inside be a span, which a failure marks; gives None where nothing is traced.

    ``parent``: a W3C ``traceparent``; None or one that is none: the span that this is in, if any.
    """
    return _NO_SPAN if _tracing is None else _tracing.span(name, parent, attributes, kind)


def record_span(
    name: str,
    parent: str | None,
    began: float,
    ended: float,
    attributes: "Attributes | None" = None,
    error: BaseException | None = None,
) -> None:
    """Add a span that is over. ``began``, ``ended``: as ``time.monotonic`` gives them."""
    if _tracing is not None:
        _tracing.record(name, parent, began, ended, attributes, error)


def note_failure(error: BaseException) -> None:
    """Mark the span that this is in as failed. Only the kind of ``error`` is told."""
    if _tracing is not None:
        _tracing.note_failure(error)


def current_traceparent() -> str | None:
    """Return the W3C ``traceparent`` of the span that this is in, for what it calls."""
    return None if _tracing is None else _tracing.current_traceparent()


def current_trace_id() -> str | None:
    """Return the id of the trace that this is in, 32 hex digits."""
    traceparent = current_traceparent()
    return traceparent and traceparent.split("-")[1]


async def close_tracing() -> None:
    """Send what was not sent yet, and trace nothing more. Never raises, and takes at most
    ``CLOSE_TIMEOUT_S``."""
    global _tracing
    closed, _tracing = _tracing, None
    if closed is not None:
        closing = asyncio.create_task(asyncio.to_thread(closed.close))
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)


def _is_wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("", "otlp"):
        return False
    return any(os.environ.get(name) for name in ENDPOINTS)


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(f"{EXPORTER}.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
