"""Capture a function's kernels as a CUDA graph, and leave the device as it was if that fails."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch

TOLERANCE: Final = 0.02
"""Relative difference between a replay and eager fp16 above which graphs are not trusted."""


LARGEST_BYTES: Final = 128 << 20
"""Most that one recording counts: another process may have taken memory of the GPU meanwhile."""


@dataclass(frozen=True, slots=True)
class Recording:
    """``replay()`` computes the inputs' present values into ``output``.

    ``size``: bytes of the GPU beside inputs, output and what the kernels work on.
    """

    replay: Callable[[], None]
    output: Any
    size: int


class Recorder(Protocol):
    """What ``Graphs`` records with; all recordings share one pool of memory."""

    def record(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        place: Callable[[Any], Any],
    ) -> Recording:
        """Record ``function(*inputs)``; ``place`` returns where a result like its argument goes.

        Raises ``RuntimeError`` if it cannot be recorded, or if a replay gives another result.
        """
        ...

    def release(self) -> None:
        """Give up the pool, whose recordings are all gone."""
        ...


class CudaRecorder:
    """Records CUDA graphs on the current device."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._stream: Any = None

    def record(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        place: Callable[[Any], Any],
    ) -> Recording:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        expected = self._warm_up(function, inputs)
        output = place(expected)
        torch.cuda.empty_cache()  # as the capture does itself
        before = _bytes_outside_torch()
        graph = _capture(function, inputs, output, self._pool, self._stream)
        graph.replay()
        _check(output, expected)
        taken = _bytes_outside_torch() - before
        return Recording(graph.replay, output, min(max(0, taken), LARGEST_BYTES))

    def release(self) -> None:
        self._pool = None

    def _warm_up(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Run on the stream that is captured: what libraries allocate for it exists then."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(2):
                expected = function(*inputs)
        current.wait_stream(self._stream)
        expected.record_stream(current)
        return expected


def _capture(
    function: Callable[..., Any], inputs: Sequence[Any], output: Any, pool: Any, stream: Any
) -> Any:
    graph = torch.cuda.CUDAGraph()
    current = torch.cuda.current_stream()
    try:
        # Other threads of the replica may use the driver during the capture.
        with torch.cuda.graph(graph, pool, stream, "thread_local"):
            output.copy_(function(*inputs))
    except RuntimeError:
        _end_failed_capture(pool)
        raise
    finally:
        # torch does so itself only if the capture ended well, up to 2.11 at least.
        torch.cuda.set_stream(current)
    return graph


def _end_failed_capture(pool: Any) -> None:
    """Do what torch leaves undone, up to 2.11, when the end of a capture fails.

    The allocator would go on to serve the capture's pool, and random numbers would fail for ever.
    """
    device = torch.cuda.current_device()
    with suppress(Exception):
        torch._C._cuda_endAllocateToPool(device, pool)  # noqa: SLF001 - there is no other way
    with suppress(Exception):
        generator = torch.cuda.default_generators[device]
        generator.graphsafe_set_state(generator.clone_state())


def _check(replayed: Any, expected: Any) -> None:
    # A row that overflows is that row's failure, and no reason to doubt the graph.
    sound = expected.isfinite()
    difference = (replayed - expected).float().where(sound, 0.0)
    error, size = difference.norm(), expected.float().where(sound, 0.0).norm()
    if not error <= TOLERANCE * size:
        raise RuntimeError(f"the replay is off by {error:.3g} of {size:.3g}")


def _bytes_outside_torch() -> int:
    """Return the memory of the device that is neither free nor in torch's allocator."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return int(total - free - torch.cuda.memory_reserved())
