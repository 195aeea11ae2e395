"""Write the ``smpl`` chunk of a WAV file, which samplers and game engines take loops from."""

import io
import struct
from typing import Final

_HEADER: Final = struct.Struct("<9I")
_LOOP: Final = struct.Struct("<6I")

MIDDLE_C: Final = 60

_NANOSECONDS: Final = 1_000_000_000

_RIFF_SIZE_AT: Final = 4


def add_loop_points(wav: io.BytesIO, frames: int, sample_rate: int) -> None:
    """Append a ``smpl`` chunk that loops all ``frames`` without end (RIFF MCI, 1994, "Sampler").

    ``wav``: a whole RIFF file.
    """
    period = _NANOSECONDS // sample_rate
    # Manufacturer, product, period, note, its fraction, SMPTE format and offset, loops, more data.
    header = _HEADER.pack(0, 0, period, MIDDLE_C, 0, 0, 0, 1, 0)
    # Id, forwards, the first and the last sample, fraction, times (0: without end).
    loop = _LOOP.pack(0, 0, 0, frames - 1, 0, 0)
    body = header + loop
    size = wav.seek(0, io.SEEK_END)
    wav.write(b"\0" * (size % 2) + b"smpl" + struct.pack("<I", len(body)) + body)
    with wav.getbuffer() as data:
        struct.pack_into("<I", data, _RIFF_SIZE_AT, len(data) - 8)
