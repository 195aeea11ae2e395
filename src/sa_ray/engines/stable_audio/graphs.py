"""CUDA graphs: a function of tensors, recorded once for each set of shapes and replayed."""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from sa_ray.engines.stable_audio.device_faults import is_out_of_memory

_log = logging.getLogger(__name__)

Size = tuple[int, int]
"""Rows and length that a call is padded to."""

RECORD_AT: Final = 2
"""Use of a size at which it is recorded; recording takes as long as some dozen runs."""

LARGEST_DETOUR: Final = 2.0
"""Most work, relative to its own, that a call is padded to for the sake of a recorded graph."""

SETTLED: Final = 1000
"""Runs without a use after which a graph may make room for another."""

TOLERANCE: Final = 0.02
"""Relative difference between a replay and eager fp16 above which graphs are not trusted."""


@dataclass(slots=True)
class Counts:
    """Runs that replayed a graph, and all runs while graphs were on."""

    replayed: int = 0
    runs: int = 0


class _Graph:
    """One recorded call; inputs and output are views of tensors that all graphs share."""

    def __init__(self, inputs: list[Any], output: Any, graph: Any, size: int) -> None:
        self._inputs = inputs
        self._output = output
        self._graph = graph
        self.bytes = size
        self.last_used = 0

    def __call__(self) -> Any:
        self._graph.replay()
        return self._output


@dataclass(slots=True)
class _Shared:
    """Static tensors of all calls of one name, each as large as its largest so far."""

    buffers: dict[Any, Any] = field(default_factory=dict)
    sources: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    """By index: the tensor last copied, and the view that it was copied to."""


class Graphs:
    """Runs functions through CUDA graphs, where launching kernels costs more than running them.

    Graphs of one name share their inputs and outputs, and all share one pool of memory, so a
    further graph costs little more than its list of kernels. A result is valid until the next run
    of its name. Callers must not write into tensors that they passed: an input that is the same
    object as last time is not copied again.

    After one unexpected failure no graph is recorded or replayed any more (``fault`` says why): a
    capture that fails may leave torch's allocator in a state that only a new process mends.

    ``max_bytes``: most memory of the GPU that graphs take beside what their kernels work on.
    """

    def __init__(self, *, enabled: bool, max_bytes: int = 1 << 31) -> None:
        self._enabled = enabled
        self._max_bytes = max_bytes
        self._graphs: OrderedDict[Any, _Graph] = OrderedDict()
        self._uses: dict[tuple[str, Size], int] = {}
        self._shared: dict[str, _Shared] = {}
        self._record_at = RECORD_AT
        self._pool: Any = None
        self._stream: Any = None
        self.fault: str | None = None
        self.counts = Counts()

    def size_for(self, name: str, size: Size) -> Size:
        """Return the size to pad the next run of ``name`` to, at least ``size``.

        It is ``size`` itself once that is, or is about to be, recorded; until then the smallest
        that is recorded and within ``LARGEST_DETOUR``, if there is one.
        """
        if not self._enabled:
            return size
        uses = self._uses[name, size] = self._uses.get((name, size), 0) + 1
        if uses >= self._record_at:
            return size
        rows, length = size
        larger = [
            other
            for other in self._sizes(name)
            if other[0] >= rows
            and other[1] >= length
            and math.prod(other) <= LARGEST_DETOUR * math.prod(size)
        ]
        return min(larger, key=math.prod, default=size)

    def run(self, name: str, size: Size | None, function: Callable[..., Any], *inputs: Any) -> Any:
        """Return ``function(*inputs)``, whose shapes follow from ``name`` and ``size``.

        ``size`` None: do not record, for what is rare.
        """
        if not self._enabled or size is None:
            return function(*inputs)
        self.counts.runs += 1
        graph = self._graphs.get((name, size))
        if graph is None:
            if self._uses.get((name, size), self._record_at) < self._record_at:
                return function(*inputs)
            graph = self._recorded(name, size, function, inputs)
            if graph is None:
                return function(*inputs)
        else:
            self._fill(name, graph._inputs, inputs)
        self.counts.replayed += 1
        graph.last_used = self.counts.runs
        self._graphs.move_to_end((name, size))
        return graph()

    def place(self, name: str, index: int, shape: tuple[int, ...], dtype: Any, device: Any) -> Any:
        """Return a tensor to make input ``index`` of ``name`` in, so that it is not copied.

        What an earlier call returned for it is overwritten.
        """
        if not self._enabled:
            return torch.empty(shape, dtype=dtype, device=device)
        self._shared.setdefault(name, _Shared()).sources.pop(index, None)
        return self._view(name, index, shape, dtype, device)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record every size at its first use."""
        self._record_at = 1
        try:
            yield
        finally:
            self._record_at = RECORD_AT

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Neither record nor replay."""
        enabled, self._enabled = self._enabled, False
        try:
            yield
        finally:
            self._enabled = enabled and self.fault is None

    def forget(self) -> None:
        """Drop what was passed to the last runs, and the memory it holds."""
        for shared in self._shared.values():
            shared.sources.clear()

    def clear(self) -> bool:
        """Drop every graph and all the memory that they hold; return False if there was none."""
        held = bool(self._graphs or self._shared)
        self._graphs.clear()
        self._shared.clear()
        self._pool = None
        return held

    def _sizes(self, name: str) -> list[Size]:
        return [size for other, size in self._graphs if other == name]

    def _recorded(
        self, name: str, size: Size, function: Callable[..., Any], inputs: tuple[Any, ...]
    ) -> _Graph | None:
        if not self._has_room():
            return None
        try:
            graph = self._graphs[name, size] = self._record(name, function, inputs)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._give_up(name, size, error)
            return None
        return graph

    def _give_up(self, name: str, size: Size, error: RuntimeError) -> None:
        self.fault = f"recording {name} at {size[0]} x {size[1]} failed: {error}".partition("\n")[0]
        _log.error("CUDA graphs are off until this replica is started again: %s", self.fault)
        self._enabled = False
        self.clear()

    def _has_room(self) -> bool:
        while sum(graph.bytes for graph in self._graphs.values()) > self._max_bytes:
            key, oldest = next(iter(self._graphs.items()))
            if self.counts.runs - oldest.last_used < SETTLED:
                return False
            del self._graphs[key]
        return True

    def _fill(self, name: str, views: list[Any], inputs: tuple[Any, ...]) -> None:
        sources = self._shared[name].sources
        for index, (view, tensor) in enumerate(zip(views, inputs, strict=True)):
            source, target = sources.get(index, (None, None))
            if source is not tensor or target is not view:
                if view.data_ptr() != tensor.data_ptr() or view.shape != tensor.shape:
                    view.copy_(tensor)
                sources[index] = tensor, view

    def _view(self, name: str, index: int, shape: Any, dtype: Any, device: Any) -> Any:
        """Return a view of a shared tensor; where that must grow, drop the graphs that used it."""
        shared = self._shared.setdefault(name, _Shared())
        count = math.prod(shape)
        buffer = shared.buffers.get((index, dtype))
        if buffer is None or len(buffer) < count:
            for key in [key for key in self._graphs if key[0] == name]:
                del self._graphs[key]
            shared.sources.pop(index, None)
            shared.buffers.pop((index, dtype), None)
            buffer = None  # before the larger one is allocated
            buffer = torch.zeros(count, dtype=dtype, device=device)
            shared.buffers[index, dtype] = buffer
        return buffer[:count].view(shape)

    def _record(self, name: str, function: Callable[..., Any], inputs: tuple[Any, ...]) -> _Graph:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        views = [
            self._view(name, index, tensor.shape, tensor.dtype, tensor.device)
            for index, tensor in enumerate(inputs)
        ]
        self._fill(name, views, inputs)
        expected = self._warm_up(function, views)
        output = self._view(name, -1, expected.shape, expected.dtype, expected.device)
        free = _free_bytes()
        graph = _capture(function, views, output, self._pool, self._stream)
        graph.replay()
        _check(output, expected)
        return _Graph(views, output, graph, max(0, free - _free_bytes()))

    def _warm_up(self, function: Callable[..., Any], views: list[Any]) -> Any:
        """Run on the stream that is captured: what libraries allocate for it exists then."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(2):
                expected = function(*views)
        current.wait_stream(self._stream)
        expected.record_stream(current)
        return expected


def _capture(
    function: Callable[..., Any], views: list[Any], output: Any, pool: Any, stream: Any
) -> Any:
    graph = torch.cuda.CUDAGraph()
    current = torch.cuda.current_stream()
    try:
        # Other threads of the replica may use the driver during the capture.
        with torch.cuda.graph(graph, pool, stream, "thread_local"):
            output.copy_(function(*views))
    except RuntimeError:
        # The allocator would go on to serve the pool of a capture that never ended.
        with suppress(Exception):
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
        raise
    finally:
        # torch does so itself only if the capture ended well, up to 2.11 at least.
        torch.cuda.set_stream(current)
    return graph


def _check(replayed: Any, expected: Any) -> None:
    # A row that overflows is that row's failure, and no reason to doubt the graph.
    sound = expected.isfinite()
    difference = (replayed - expected).float().where(sound, 0.0)
    error = difference.norm() / expected.float().where(sound, 0.0).norm()
    if not error <= TOLERANCE:
        raise RuntimeError(f"the replay is off by {error:.3g}")


def _free_bytes() -> int:
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()
    return int(free)
