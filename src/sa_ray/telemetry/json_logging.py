"""Logging: one JSON object a line, with the request or job, and the trace, it belongs to."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from sa_ray.telemetry.tracing import current_trace_id

_context: ContextVar[dict[str, str]] = ContextVar("sa_ray_log_context", default={})  # noqa: B039 - never mutated

ROOT = "sa_ray"


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Add ``fields`` (``request_id``, ``job_id``) to every line logged inside."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_context.get(),
        }
        if trace_id := current_trace_id():
            line["trace_id"] = trace_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging() -> None:
    """Send this project's log lines to standard error; once per process, repeats do nothing."""
    logger = logging.getLogger(ROOT)
    if any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers):
        return
    # Not `sys.stderr`, for which Serve may have put a logger of its own: that walks the stack for
    # each line, and keeps up to a thousand of them back.
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
