"""Telemetry: log lines as JSON."""

from sa_ray.telemetry.json_logging import JsonFormatter, configure_logging, log_context

__all__ = ["JsonFormatter", "configure_logging", "log_context"]
