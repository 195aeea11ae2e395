"""Engines turn resolved requests into audio. Only ``load_engine`` picks one."""

from sa_ray.engines.flaws import NOT_NUMBERS, flaw_of
from sa_ray.engines.loading import INSTALL_HINT, load_engine, resolve_engine_name
from sa_ray.engines.port import (
    Audio,
    BatchOutcome,
    Cancelled,
    DeviceLostError,
    Engine,
    EngineOptions,
    Generated,
)

__all__ = [
    "INSTALL_HINT",
    "NOT_NUMBERS",
    "Audio",
    "BatchOutcome",
    "Cancelled",
    "DeviceLostError",
    "Engine",
    "EngineOptions",
    "Generated",
    "flaw_of",
    "load_engine",
    "resolve_engine_name",
]
