"""Resample in blocks, so that a long clip is never held twice."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr

BLOCK_FRAMES: Final = 1 << 16
"""Frames of a block."""

_Samples = npt.NDArray[np.float32]


def resampled(
    blocks: Iterator[_Samples], channels: int, rate: int, target: int
) -> Iterator[_Samples]:
    """Yield float32 ``blocks`` ``[frames, channels]`` of ``rate`` Hz at ``target`` Hz."""
    stream = soxr.ResampleStream(rate, target, channels, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty((0, channels), np.float32), last=True)
