"""Engines turn resolved requests into audio. ``load_engine`` picks one; nothing else does."""

from sa_ray.engines.loading import load_engine, resolve_engine_name
from sa_ray.engines.port import BatchOutcome, Cancelled, Engine, Generated

__all__ = [
    "BatchOutcome",
    "Cancelled",
    "Engine",
    "Generated",
    "load_engine",
    "resolve_engine_name",
]
