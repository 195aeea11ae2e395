"""Stable Audio 3 over the unmodified ``stable-audio-3`` package; needs the extra to import."""

from sa_ray.engines.stable_audio.engine import StableAudioEngine, load

__all__ = ["StableAudioEngine", "load"]
