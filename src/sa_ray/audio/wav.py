"""Write WAV files (RIFF MCI, 1994), in one piece of memory.

libsndfile hands over each block through a callback of Python, and scales and clips once more: it
takes three times as long for 16 bits.
"""

import io
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from sa_ray.audio.loop_points import add_loop_points
from sa_ray.audio.pcm import SHORT_BITS, to_integers, within_range
from sa_ray.audio.resampling import BLOCK_FRAMES

FLOAT_BITS: Final = 32

_INTEGERS, _FLOATS = 1, 3
"""Format tags."""

_TAGS: Final[Mapping[str, bytes]] = MappingProxyType(
    {"title": b"INAM", "comment": b"ICMT", "software": b"ISFT"}
)

_Samples = npt.NDArray[np.float32]


def wav_file(
    samples: _Samples, sample_rate: int, bits: int, texts: Mapping[str, str], *, loop: bool
) -> bytes:
    """Return a file of float32 ``samples`` ``[channels, n]``, clipped to [-1, 1].

    ``bits``: 16 or 24 of an integer, 32 of a float. ``texts`` may hold ``title``, ``comment`` and
    ``software``; they lie behind the audio, which begins at byte 44 if it is of integers, where
    simple readers look for it. Raises ``GenerationError`` if a sample is not finite.
    """
    channels, frames = samples.shape
    size = frames * channels * bits // 8
    head = _format(channels, frames, sample_rate, bits) + b"data" + struct.pack("<I", size)
    tail = b"\0" * (size % 2) + _names(texts)
    whole = 12 + len(head) + size + len(tail)
    file = io.BytesIO()
    file.write(b"RIFF" + struct.pack("<I", whole - 8) + b"WAVE" + head)
    start = file.tell()
    if size:
        # The last byte first: so there is memory for all of them, which `getvalue` does not copy.
        file.seek(start + size - 1)
        file.write(b"\0")
    file.write(tail)
    with file.getbuffer() as memory:
        _fill(memory[start : start + size], samples, bits)
    if loop:
        add_loop_points(file, frames, sample_rate)
    return file.getvalue()


def _format(channels: int, frames: int, sample_rate: int, bits: int) -> bytes:
    kind = _FLOATS if bits == FLOAT_BITS else _INTEGERS
    frame = channels * bits // 8
    about = struct.pack("<HHIIHH", kind, channels, sample_rate, sample_rate * frame, frame, bits)
    if kind == _INTEGERS:
        return _chunk(b"fmt ", about)
    # Of any but integers, readers expect the size of an extension, and the number of frames.
    return _chunk(b"fmt ", about + b"\0\0") + _chunk(b"fact", struct.pack("<I", frames))


def _names(texts: Mapping[str, str]) -> bytes:
    named = [_chunk(_TAGS[name], text.encode() + b"\0") for name, text in texts.items() if text]
    return _chunk(b"LIST", b"INFO" + b"".join(named)) if named else b""


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _fill(memory: memoryview, samples: _Samples, bits: int) -> None:
    """Write ``samples`` into ``memory``, channel by channel: numpy is slow at short rows."""
    channels, frames = samples.shape
    kind, width = {SHORT_BITS: ("<i2", 1), FLOAT_BITS: ("<f4", 1)}.get(bits, ("u1", bits // 8))
    target = np.frombuffer(memory, kind).reshape(frames, channels, width)
    for start in range(0, frames, BLOCK_FRAMES):
        for channel in range(channels):
            block = within_range(samples[channel, start : start + BLOCK_FRAMES])
            target[start : start + BLOCK_FRAMES, channel] = _coded(block, bits)


def _coded(block: _Samples, bits: int) -> npt.NDArray[np.generic]:
    """Return the numbers of a block of one channel, or their bytes, a row for each sample."""
    if bits == FLOAT_BITS:
        return block[:, np.newaxis]
    integers = to_integers(block, bits)
    if bits == SHORT_BITS:
        return integers[:, np.newaxis]
    # The upper bytes hold the number.
    return integers.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 4 - bits // 8 :]
