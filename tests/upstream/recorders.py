"""A recorder of CUDA graphs for machines without CUDA: replays run the function again."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sa_ray.engines.stable_audio.capture import Recording


class RerunRecorder:
    """Replays compute from the shared inputs into the shared output, as those of a graph do.

    ``fails``: raises what recording a function of these inputs should raise. ``size``: bytes that
    each recording claims to take.
    """

    def __init__(
        self, *, fails: Callable[[Sequence[Any]], None] = lambda inputs: None, size: int = 0
    ) -> None:
        self._fails = fails
        self._size = size
        self.recorded: Counter[tuple[int, ...]] = Counter()
        """How often inputs were recorded, by the shape of the first."""

    def record(
        self, function: Callable[..., Any], inputs: Sequence[Any], place: Callable[[Any], Any]
    ) -> Recording:
        self.recorded[tuple(inputs[0].shape)] += 1
        self._fails(inputs)
        output = place(function(*inputs))
        return Recording(lambda: output.copy_(function(*inputs)), output, self._size)

    def release(self) -> None:
        pass
