"""An engine in a process of its own, whose interpreter lock it shares with nothing else."""

from sa_ray.engines.process.engine import EngineProcess

__all__ = ["EngineProcess"]
