"""Memory that two processes share: files without a name, which end with their last user.

Not in ``/dev/shm``: containers have 64 MiB there, and what a killed process leaves stays.
"""

import math
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from sa_ray.engines.port import Audio
from sa_ray.engines.process.messages import Shape


def nameless(size: int) -> IO[bytes]:
    """Return a file of ``size`` zero bytes, which take memory once they are used.

    On systems without files of memory, it is in the folder for temporary ones.
    """
    if sys.platform == "linux":
        file = os.fdopen(os.memfd_create("sa_ray"), "w+b")
    else:
        file = TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.truncate(size)
    return file


def mapped(file: int, *, writable: bool = True) -> mmap.mmap:
    """Return all of the file with the descriptor ``file``, which is taken over."""
    try:
        return mmap.mmap(file, 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
    finally:
        os.close(file)


def size_of(shapes: Iterable[Shape]) -> int:
    """Return the bytes of arrays with these ``shapes``."""
    return sum(math.prod(shape) for shape in shapes) * np.float32().nbytes


def arrays_in(whole: Audio, shapes: Iterable[Shape]) -> Iterator[Audio]:
    """Yield the arrays of these ``shapes`` that lie in ``whole`` one after the other, uncopied."""
    start = 0
    for shape in shapes:
        end = start + math.prod(shape)
        yield whole[start:end].reshape(shape)
        start = end


def fill(memory: mmap.mmap, arrays: Sequence[Audio]) -> None:
    """Copy ``arrays`` to where ``arrays_in`` finds them."""
    places = arrays_in(np.frombuffer(memory, np.float32), [one.shape for one in arrays])
    for place, samples in zip(places, arrays, strict=True):
        place[...] = samples
