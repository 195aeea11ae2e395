"""The service with a pretended engine: builders for the ``import_path`` of a Serve config.

Serve runs a builder in a process of its own, and each replica is one, so that what is replaced here
is replaced for nothing else.
"""

from collections.abc import Callable
from typing import Any

from ray.serve import Application

from bench.loadtest import calling_engine
from bench.loadtest.engine import PretendedEngine, asleep, h100, nothing
from sa_ray import app
from sa_ray.contracts import EngineName, VariantName
from sa_ray.engines import Engine, EngineOptions
from sa_ray.engines.process import EngineProcess
from sa_ray.serving.variant import deployment


class Pretending(deployment.Variant):
    """A variant whose engine ``load`` returns."""

    load: Callable[[EngineName, VariantName, EngineOptions], Engine]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        deployment.load_engine = type(self).load
        super().__init__(*args, **kwargs)


class ZeroCost(Pretending):
    """A variant whose engine costs nothing, but for ``small-music``, whose jobs are to wait in the
    queue. It calls itself ``procedural``."""

    @staticmethod
    def load(name: EngineName, variant: VariantName, options: EngineOptions) -> Engine:
        return PretendedEngine(variant, asleep if variant == "small-music" else nothing)


class PretendedGpu(Pretending):
    """A variant whose engine sleeps like a GPU. It calls itself ``stable-audio-3`` on ``cuda``, so
    that costs, batches and routing are those of production."""

    @staticmethod
    def load(name: EngineName, variant: VariantName, options: EngineOptions) -> Engine:
        return PretendedEngine(variant, h100, name="stable-audio-3", device="cuda")


class CallingGpu(Pretending):
    """As ``PretendedGpu``, with an engine that makes many short calls."""

    @staticmethod
    def load(name: EngineName, variant: VariantName, options: EngineOptions) -> Engine:
        return calling_engine.load(variant)


class CallingGpuApart(Pretending):
    """As ``CallingGpu``, with the engine in a process of its own, as production has it."""

    @staticmethod
    def load(name: EngineName, variant: VariantName, options: EngineOptions) -> Engine:
        return EngineProcess(f"{calling_engine.__name__}:load", variant)


def zero_cost(args: dict[str, Any]) -> Application:
    """Build the service with ``ZeroCost``."""
    app.Variant = ZeroCost
    return app.build(args)


def pretended_gpu(args: dict[str, Any]) -> Application:
    """Build the service with ``PretendedGpu``; Ray must have been told of the GPUs."""
    return _on_gpus(PretendedGpu, args)


def calling_gpu(args: dict[str, Any]) -> Application:
    """Build the service with ``CallingGpu``; Ray must have been told of the GPUs."""
    return _on_gpus(CallingGpu, args)


def calling_gpu_apart(args: dict[str, Any]) -> Application:
    """Build the service with ``CallingGpuApart``; Ray must have been told of the GPUs."""
    return _on_gpus(CallingGpuApart, args)


def _on_gpus(variant: type[deployment.Variant], args: dict[str, Any]) -> Application:
    app.Variant = variant
    app.resolve_engine_name = lambda _setting: "stable-audio-3"
    return app.build(args)
