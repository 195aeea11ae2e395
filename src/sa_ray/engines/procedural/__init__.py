"""The procedural engine: a stand-in that renders prompt-shaped sound with numpy alone."""

from sa_ray.engines.procedural.engine import ProceduralEngine

__all__ = ["ProceduralEngine"]
