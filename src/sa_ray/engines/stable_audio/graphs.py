"""CUDA graphs: a function of tensors, recorded once for each set of shapes and replayed."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import torch

_log = logging.getLogger(__name__)

MAX_GRAPHS: Final = 32
"""Most recorded graphs kept; the least recently used goes first."""

TOLERANCE: Final = 0.02
"""Relative difference between a replay and eager fp16 above which the graph is not trusted."""


class _Graph:
    def __init__(self, function: Callable[..., Any], inputs: tuple[Any, ...], pool: Any) -> None:
        self._sources: list[Any] = list(inputs)
        self._inputs = [tensor.clone() for tensor in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                expected = function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads of the replica may use the driver during the capture.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._output = function(*self._inputs)
        self._graph.replay()
        # A row that overflows is that row's failure, and no reason to doubt the graph.
        sound = expected.isfinite()
        difference = (self._output - expected).float().where(sound, 0.0)
        error = difference.norm() / expected.float().where(sound, 0.0).norm()
        if not error <= TOLERANCE:
            raise RuntimeError(f"the replay is off by {error:.3g}")

    def __call__(self, inputs: tuple[Any, ...]) -> Any:
        for index, (static, tensor) in enumerate(zip(self._inputs, inputs, strict=True)):
            if self._sources[index] is not tensor:
                static.copy_(tensor)
                self._sources[index] = tensor
        self._graph.replay()
        return self._output.clone()


class Graphs:
    """Runs functions through CUDA graphs, where launching kernels costs more than running them.

    A function that cannot be recorded, or whose replay differs from running it, runs eagerly:
    slower, never wrong. Callers must not write in place into tensors that they passed: an input
    that is the same object as last time is not copied again.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._graphs: OrderedDict[Any, _Graph | None] = OrderedDict()
        self._pool = self._new_pool()

    def run(self, name: str, function: Callable[..., Any], *inputs: Any) -> Any:
        """Return ``function(*inputs)``; ``name`` tells functions of equal shapes apart."""
        if not self._enabled:
            return function(*inputs)
        key = name, tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        if key not in self._graphs:
            self._graphs[key] = self._record(name, function, inputs)
            if len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        return function(*inputs) if graph is None else graph(inputs)

    def clear(self) -> bool:
        """Drop every graph and the memory it holds; return False if there was none."""
        held = any(self._graphs.values())
        self._graphs.clear()
        self._pool = self._new_pool()
        return held

    def _record(
        self, name: str, function: Callable[..., Any], inputs: tuple[Any, ...]
    ) -> _Graph | None:
        try:
            return _Graph(function, inputs, self._pool)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            shapes = [tuple(tensor.shape) for tensor in inputs]
            _log.warning("no CUDA graph for %s%s, running it eagerly: %s", name, shapes, error)
            self._pool = self._new_pool()
            return None

    def _new_pool(self) -> Any:
        """Return a fresh pool; one whose graphs are all gone cannot be recorded into again."""
        return torch.cuda.graph_pool_handle() if self._enabled else None
