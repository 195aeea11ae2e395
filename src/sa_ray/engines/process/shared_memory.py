"""Memory that two processes share: files without a name, which end with their last user.

Not in ``/dev/shm``: containers have 64 MiB there, and what a killed process leaves stays.
"""

import math
import mmap
import os
import sys
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sa_ray.engines.port import Audio, IsCancelled, OnStep
from sa_ray.engines.process.messages import Shape


def filled(samples: Audio) -> IO[bytes]:
    """Return a file with ``samples`` in it."""
    file = _nameless()
    try:
        # Written, since touching the pages of a mapping for the first time takes longer.
        file.write(np.ascontiguousarray(samples, np.float32).reshape(-1).view(np.uint8).data)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def mapped(file: int, shape: Shape, *, writable: bool) -> Audio:
    """Take over the descriptor ``file``; return the samples in it, uncopied.

    The memory is given back with the last array on it.
    """
    return _mapped(file, shape, np.float32, writable=writable)


class BatchState:
    """How far the rows of a batch are, and which are cancelled: one side writes, the other reads.

    Nobody is woken by it: a step costs the engine the storing of a number.
    """

    def __init__(self, file: int, rows: int) -> None:
        """Take over the descriptor ``file`` of the state of ``rows`` rows."""
        self._progress, self._cancelled = _mapped(file, (2, rows), np.float64, writable=True)
        self._told = [0.0] * rows

    @classmethod
    def created(cls, rows: int) -> tuple["BatchState", IO[bytes]]:
        """Return the state of a batch that begins, and its file, for the other side."""
        file = _nameless()
        file.truncate(2 * rows * np.float64().nbytes)
        return cls(os.dup(file.fileno()), rows), file

    def renew(self, on_step: OnStep, is_cancelled: IsCancelled) -> None:
        """Take in who is cancelled by now, and tell the progress that was not told yet."""
        for row, cancelled in enumerate(self._cancelled):
            if not cancelled and is_cancelled(row):
                self._cancelled[row] = 1
        before, self._told = self._told, self._progress.tolist()
        for row, fraction in enumerate(self._told):
            if fraction != before[row]:
                on_step(row, fraction)

    def note_progress(self, row: int, fraction: float) -> None:
        self._progress[row] = fraction

    def is_cancelled(self, row: int) -> bool:
        return bool(self._cancelled[row])


def _nameless() -> IO[bytes]:
    """Open an empty file of memory; on systems without such, in the folder for temporary ones."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("sa_ray"), "w+b")
    return TemporaryFile()


def _mapped(file: int, shape: Shape, kind: Any, *, writable: bool) -> npt.NDArray[Any]:
    try:
        size = math.prod(shape) * np.dtype(kind).itemsize
        if not size:
            return np.zeros(shape, kind)
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return np.frombuffer(mmap.mmap(file, size, access=access), kind).reshape(shape)
    finally:
        os.close(file)
