"""Engines turn resolved requests into audio. Only ``load_engine`` picks one."""

from sa_ray.engines.loading import INSTALL_HINT, load_engine, resolve_engine_name
from sa_ray.engines.port import (
    BatchOutcome,
    Cancelled,
    DeviceLostError,
    Engine,
    EngineOptions,
    Generated,
)

__all__ = [
    "INSTALL_HINT",
    "BatchOutcome",
    "Cancelled",
    "DeviceLostError",
    "Engine",
    "EngineOptions",
    "Generated",
    "load_engine",
    "resolve_engine_name",
]
