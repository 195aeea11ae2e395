"""CUDA graphs: a function of tensors, recorded once for each set of shapes and replayed."""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from sa_ray.engines.stable_audio.capture import Recorder, Recording
from sa_ray.engines.stable_audio.device_faults import is_out_of_memory

_log = logging.getLogger(__name__)

Size = tuple[int, ...]
"""Rows and length that a call is padded to; a third number where the function takes more inputs."""

RECORD_AT: Final = 2
"""Batch of a size at which that is recorded; recording takes as long as some dozen runs."""

SETTLED: Final = 1000
"""Runs without a use after which a graph may make room for another."""


@dataclass(slots=True)
class Counts:
    """Runs that replayed a graph, and all runs while graphs were on."""

    replayed: int = 0
    runs: int = 0


@dataclass(slots=True)
class _Graph:
    inputs: list[Any]
    recording: Recording
    last_used: int = 0


@dataclass(slots=True)
class _Shared:
    """Static tensors of all graphs of one name, each as large as its largest so far."""

    buffers: dict[Any, Any] = field(default_factory=dict)
    sources: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    """By index: the tensor last copied, and the view that it was copied to."""
    placed: dict[int, Any] = field(default_factory=dict)
    """By index: the view that the next input is made in."""


class Graphs:
    """Runs functions through CUDA graphs, where launching kernels costs more than running them.

    Graphs of one name share their inputs and outputs, and all share one pool of memory, so a
    further graph costs little more than its list of kernels. A result is valid until the next run
    of its name. Callers must not write into tensors that they passed: an input that is the same
    object as last time is not copied again.

    After one unexpected failure no graph is recorded or replayed any more (``fault`` says why): a
    capture that fails may leave torch in a state that only a new process mends.

    ``recorder``: None: run everything as it is. ``max_bytes``: most memory of the GPU that graphs
    take beside what their kernels work on.
    """

    def __init__(self, recorder: Recorder | None, *, max_bytes: int = 1 << 31) -> None:
        self._recorder = recorder
        self._is_on = recorder is not None
        self._max_bytes = max_bytes
        self._graphs: OrderedDict[tuple[str, Size], _Graph] = OrderedDict()
        self._batches: dict[tuple[str, Size], int] = {}
        self._shared: dict[str, _Shared] = {}
        self._record_at = RECORD_AT
        self._too_large: set[tuple[str, Size]] = set()
        """What did not fit in memory while it was recorded: it would cost all graphs each time."""
        self.fault: str | None = None
        self.counts = Counts()

    def note(self, name: str, size: Size) -> None:
        """Count a batch that will run ``name`` at ``size``: sizes that come back are recorded."""
        if self._is_on:
            self._batches[name, size] = self._batches.get((name, size), 0) + 1

    def run(self, name: str, size: Size, function: Callable[..., Any], *inputs: Any) -> Any:
        """Return ``function(*inputs)``, whose shapes follow from ``name`` and ``size``."""
        if not self._is_on:
            return function(*inputs)
        self.counts.runs += 1
        graph = self._graphs.get((name, size))
        if graph is None and self._recorder is not None:
            graph = self._recorded(self._recorder, name, size, function, inputs)
        if graph is None:
            return function(*inputs)
        self._fill(name, graph.inputs, inputs)
        self.counts.replayed += 1
        graph.last_used = self.counts.runs
        self._graphs.move_to_end((name, size))
        graph.recording.replay()
        return graph.recording.output

    def place(self, name: str, index: int, shape: tuple[int, ...], dtype: Any, device: Any) -> Any:
        """Return a tensor to make input ``index`` of ``name`` in, so that it is not copied.

        What an earlier call returned for it is overwritten.
        """
        if not self._is_on:
            return torch.empty(shape, dtype=dtype, device=device)
        view = self._view(name, index, shape, dtype, device)
        self._shared[name].sources.pop(index, None)
        self._shared[name].placed[index] = view
        return view

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
        was_on, self._is_on = self._is_on, False
        try:
            yield
        finally:
            self._is_on = was_on

    def forget(self) -> None:
        """Drop what was passed to the last runs, and the memory it holds."""
        for shared in self._shared.values():
            shared.sources.clear()
            shared.placed.clear()

    def clear(self) -> bool:
        """Drop every graph and all the memory that they hold; return False if there was none."""
        held = bool(self._graphs or self._shared)
        self._graphs.clear()
        self._shared.clear()
        if self._recorder is not None:
            self._recorder.release()
        return held

    def _recorded(
        self,
        recorder: Recorder,
        name: str,
        size: Size,
        function: Callable[..., Any],
        inputs: tuple[Any, ...],
    ) -> _Graph | None:
        """Record a graph, if that is worth it and goes well."""
        is_new = self._batches.get((name, size), 0) < self._record_at
        if is_new or (name, size) in self._too_large or not self._has_room():
            return None
        views = [
            self._view(name, index, tensor.shape, tensor.dtype, tensor.device)
            for index, tensor in enumerate(inputs)
        ]
        self._fill(name, views, inputs)

        def place(result: Any) -> Any:
            return self._view(name, -1, result.shape, result.dtype, result.device)

        try:
            graph = _Graph(views, recorder.record(function, views, place))
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._too_large.add((name, size))
                raise
            self._give_up(name, size, error)
            return None
        self._graphs[name, size] = graph
        return graph

    def _give_up(self, name: str, size: Size, error: RuntimeError) -> None:
        self.fault = f"recording {name} at {size[0]} x {size[1]} failed: {error}".partition("\n")[0]
        _log.error("CUDA graphs are off until this replica is started again: %s", self.fault)
        self._is_on = False
        self.clear()

    def _has_room(self) -> bool:
        while sum(graph.recording.size for graph in self._graphs.values()) > self._max_bytes:
            key, oldest = next(iter(self._graphs.items()))
            if self.counts.runs - oldest.last_used < SETTLED:
                return False
            del self._graphs[key]
        return True

    def _fill(self, name: str, views: list[Any], inputs: tuple[Any, ...]) -> None:
        sources, placed = self._shared[name].sources, self._shared[name].placed
        for index, (view, tensor) in enumerate(zip(views, inputs, strict=True)):
            source, target = sources.get(index, (None, None))
            if source is not tensor or target is not view:
                if view.shape != tensor.shape or placed.get(index) is not tensor:
                    view.copy_(tensor)
                sources[index] = tensor, view

    def _view(self, name: str, index: int, shape: Any, dtype: Any, device: Any) -> Any:
        """Return a view of a shared tensor; where that must grow, drop the graphs that used it."""
        shared = self._shared.setdefault(name, _Shared())
        count = math.prod(shape)
        place = index, dtype
        if place not in shared.buffers or len(shared.buffers[place]) < count:
            for key, graph in list(self._graphs.items()):
                if key[0] == name and index < len(graph.inputs):
                    del self._graphs[key]
            for held in (shared.sources, shared.placed):
                held.pop(index, None)
            shared.buffers.pop(place, None)  # before the larger one is allocated
            shared.buffers[place] = torch.zeros(count, dtype=dtype, device=device)
        return shared.buffers[place][:count].view(shape)
