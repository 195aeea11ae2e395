"""Memory for the samples of batches, used again and again: new memory takes a while to get.

Both sides have each slot, by its number. The engine fills the one that the replica names, which
names it again once none of the arrays in it is left.
"""

import mmap
import os
import weakref
from collections.abc import Iterable, Sequence
from typing import IO, Final

import numpy as np

from sa_ray.engines.port import Audio
from sa_ray.engines.process.messages import Shape
from sa_ray.engines.process.shared_memory import arrays_in, fill, mapped, nameless, size_of

STEP_BYTES: Final = 64 << 20
"""Slots have multiples of this, of which only what was used takes memory."""

KEPT: Final = 2
"""Unused slots that are kept: a batch is in one while the clips of the last one are encoded."""


class FilledSlots:
    """The side of the engine."""

    def __init__(self) -> None:
        self._slots: dict[int, mmap.mmap] = {}

    def fill(self, number: int, arrays: Sequence[Audio]) -> IO[bytes] | None:
        """Copy ``arrays`` into the slot; return its file if it is a new one."""
        size = size_of(one.shape for one in arrays)
        slot, file = self._slots.get(number), None
        if slot is None or len(slot) < size:
            file = nameless(-(-size // STEP_BYTES) * STEP_BYTES)
            slot = mapped(os.dup(file.fileno()))
        fill(slot, arrays)
        self._slots[number] = slot  # not before: the other side gets it now
        return file

    def drop(self, numbers: Iterable[int]) -> None:
        """Give the memory of these slots back."""
        for number in numbers:
            self._slots.pop(number, None)


class ReadSlots:
    """The side of the replica. Arrays may end in any thread."""

    def __init__(self) -> None:
        self._slots: dict[int, mmap.mmap] = {}
        self._free: list[int] = []
        self._made = 0

    def take(self) -> tuple[int, tuple[int, ...]]:
        """Return the number of a slot that is free, and those of slots to drop."""
        dropped = []
        while len(self._free) > KEPT:
            dropped.append(self._free.pop(0))
            self._slots.pop(dropped[-1], None)
        if self._free:
            return self._free.pop(), tuple(dropped)
        self._made += 1
        return self._made, tuple(dropped)

    def arrays(self, number: int, file: int, shapes: Sequence[Shape]) -> list[Audio]:
        """Return what was filled into the slot, whose new file has the descriptor ``file``, or -1.

        The descriptor is taken over. The slot is free again with the last of the arrays.
        """
        if file >= 0:
            self._slots[number] = mapped(file)
        if not shapes:
            self._free.append(number)
            return []
        # Views of views keep the array at their base alone: so there is one for each batch.
        whole = np.frombuffer(self._slots[number], np.float32)
        weakref.finalize(whole, self._free.append, number).atexit = False
        return list(arrays_in(whole, shapes))
