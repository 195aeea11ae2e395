"""Audio without a container: PCM of 16 bits, little-endian, and the two codes of telephony."""

import io
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import soundfile as sf

from sa_ray.audio import resampled, to_integers
from sa_ray.contracts import SAMPLE_RATE

MADE_AT: Final = (22_050, 44_100, 48_000)
"""Sample rates that our own files have, Hz."""


@dataclass(frozen=True, slots=True)
class Raw:
    sample_rate: int
    """Hz."""
    channels: Literal[1, 2]
    code: Literal["PCM_16", "ULAW", "ALAW"] = "PCM_16"

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of our request for the ``wav`` that ``raw_audio`` takes."""
        direct = self.sample_rate in MADE_AT
        return {
            "format": "wav",
            "channels": self.channels,
            "sample_rate": self.sample_rate if direct else SAMPLE_RATE,
            "bit_depth": 16 if direct else 32,
        }


def raw_audio(wav: bytes, raw: Raw) -> bytes:
    """Return the samples of ``wav``, a file with ``raw.channels``, as ``raw`` says. Blocks."""
    samples, rate = sf.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    if rate != raw.sample_rate:
        blocks = resampled(iter([samples]), raw.channels, rate, raw.sample_rate)
        samples = np.concatenate(list(blocks))
    coded: npt.NDArray[np.signedinteger] = to_integers(np.clip(samples, -1.0, 1.0), bits=16)
    if raw.code == "PCM_16":
        return bytes(coded.astype("<i2").tobytes())
    file = io.BytesIO()
    sf.write(file, coded, raw.sample_rate, format="RAW", subtype=raw.code)
    return file.getvalue()
