"""Read audio of clients: check it, and make of it the one form that is stored and edited.

``convert`` is for ``reading_worker`` alone: what it reads may crash the libraries that read it.
"""

import io
import os
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile as sf

from sa_ray.audio.pcm import to_integers
from sa_ray.audio.resampling import BLOCK_FRAMES, resampled
from sa_ray.contracts import SAMPLE_RATE, ReadAudio, UploadFormat
from sa_ray.errors import GenerationError, InvalidRequestError

LOWEST_RATE: Final = 8_000
HIGHEST_RATE: Final = 192_000
"""Hz of audio that is taken."""

MAX_CHANNELS: Final = 2

MAX_PEAK: Final = 16.0
"""Largest sample of a file of floats that is clipped: 24 dB over full scale."""

_FORMATS: Final[dict[str, UploadFormat]] = {
    "WAV": "wav",
    "WAVEX": "wav",
    "RF64": "wav",
    "FLAC": "flac",
    "MP3": "mp3",
    "OGG": "ogg",
    "AIFF": "aiff",
}

_EXACT: Final = {"PCM_S8": 16, "PCM_U8": 16, "PCM_16": 16, "PCM_24": 24}
"""Bits of FLAC that hold the samples of such files exactly."""

_DEPTH: Final = 24
"""Bits of FLAC that hold what all others decode to."""

_HEAD_BYTES: Final = 12
_UNKNOWN_FRAMES: Final = 1 << 62
"""Lengths from here on stand for an unknown one."""

_SEND: Final = "Send WAV, FLAC, MP3, Ogg (Vorbis or Opus) or AIFF"

_Samples = npt.NDArray[np.float32]


def read_source(data: bytes) -> _Samples:
    """Return the samples of an upload, as it is stored: float32 ``[2, n]`` at ``SAMPLE_RATE``.

    The channel of a mono file is both. Raises ``GenerationError`` if ``data`` is no such file.
    """
    try:
        samples, rate = sf.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except sf.LibsndfileError as error:
        raise GenerationError(f"The uploaded audio cannot be read any more: {error}") from error
    if rate != SAMPLE_RATE or samples.shape[1] > MAX_CHANNELS:
        raise GenerationError("The uploaded audio is not as it was stored.")
    return np.ascontiguousarray(np.broadcast_to(samples.T, (2, len(samples))))


def convert(source: int, target: int, max_seconds: float) -> ReadAudio:
    """Read the file with the descriptor ``source``, and write its stored form to ``target``.

    Samples of 24 bits and less at ``SAMPLE_RATE`` stay as they are; others are resampled, clipped
    at full scale and rounded to 24 bits. Works in blocks, and stops at ``max_seconds`` of audio.

    Raises ``InvalidRequestError`` (param ``audio``) for what is not taken; it says what to send.
    """
    _require_known_head(os.pread(source, _HEAD_BYTES, 0))
    os.lseek(source, 0, os.SEEK_SET)
    try:
        with sf.SoundFile(source, closefd=False) as file:
            return _converted(file, target, max_seconds)
    except (sf.SoundFileError, ValueError, TypeError, AssertionError) as error:
        raise _refusal(f"The file is damaged, or not whole ({_reason(error)}). {_SEND}.") from error


def _require_known_head(head: bytes) -> None:
    """Keep what is none of the formats from the parsers of all others that libsndfile has."""
    if not head:
        raise _refusal(f"The file is empty. {_SEND}.")
    container, kind = head[:4], head[8:12]
    is_mpeg = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)
    if not (
        (container in (b"RIFF", b"RF64") and kind == b"WAVE")
        or (container == b"FORM" and kind in (b"AIFF", b"AIFC"))
        or container in (b"fLaC", b"OggS")
        or is_mpeg
    ):
        raise _refusal(f"This is no audio file of a kind that is taken here. {_SEND}.")


def _converted(file: sf.SoundFile, target: int, max_seconds: float) -> ReadAudio:
    kind = _FORMATS.get(file.format)
    if kind is None:
        raise _refusal(f"{file.format} files are not taken. {_SEND}.")
    _require_taken(file, kind, max_seconds)
    exact = _EXACT.get(file.subtype) if file.samplerate == SAMPLE_RATE else None
    bits = exact or _DEPTH
    blocks = _decoded(file, "int32") if exact else _resampled_blocks(file, max_seconds)
    frames = 0
    with sf.SoundFile(
        target, "w", SAMPLE_RATE, file.channels, f"PCM_{bits}", format="FLAC", closefd=False
    ) as stored:
        for block in _bounded(blocks, SAMPLE_RATE, max_seconds):
            stored.write(block)
            frames += len(block)
    if not frames:
        raise _refusal(f"The file holds no sound. {_SEND} with at least one sample.")
    return ReadAudio(
        frames=frames, sample_rate=file.samplerate, channels=file.channels, format=kind
    )


def _require_taken(file: sf.SoundFile, kind: UploadFormat, max_seconds: float) -> None:
    if file.channels > MAX_CHANNELS:
        raise _refusal(
            f"The file has {file.channels} channels; at most {MAX_CHANNELS} are taken. Mix it down "
            "to stereo."
        )
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise _refusal(
            f"The file has a sample rate of {file.samplerate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} "
            "are taken. Resample it to 44100."
        )
    # Of an MP3 file it may be a guess.
    known = kind != "mp3" and file.frames < _UNKNOWN_FRAMES
    if known and file.frames > max_seconds * file.samplerate:
        raise _too_long(max_seconds)


def _decoded(file: sf.SoundFile, dtype: str) -> Iterator[npt.NDArray[np.generic]]:
    """Yield blocks; refuse a file that breaks off before the end that its header tells."""
    told, frames = file.frames, 0
    while True:
        try:
            block = file.read(BLOCK_FRAMES, dtype=dtype, always_2d=True)
        except sf.LibsndfileError as error:
            raise _broken(file, frames, f" ({_reason(error)})") from error
        if not len(block):
            break
        frames += len(block)
        yield block
    if file.format == "FLAC" and frames < told < _UNKNOWN_FRAMES:
        raise _broken(file, frames)


def _resampled_blocks(file: sf.SoundFile, max_seconds: float) -> Iterator[npt.NDArray[np.generic]]:
    blocks: Iterator[_Samples] = map(
        _sound, _bounded(_decoded(file, "float32"), file.samplerate, max_seconds)
    )
    if file.samplerate != SAMPLE_RATE:
        blocks = resampled(blocks, file.channels, file.samplerate, SAMPLE_RATE)
    for block in blocks:
        yield to_integers(np.clip(block, -1.0, 1.0), _DEPTH)


def _sound(block: npt.NDArray[np.generic]) -> _Samples:
    samples = block.astype(np.float32, copy=False)
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise _refusal(
            "The file holds samples that are not numbers (NaN or infinite). Export it again, as "
            "integers of 16 or 24 bits."
        )
    if peak > MAX_PEAK:
        raise _refusal(
            f"The file holds a sample of {peak:.3g}, where full scale is 1. Export it again, with "
            "floats between -1 and 1, or as integers."
        )
    return samples


def _bounded(
    blocks: Iterator[npt.NDArray[np.generic]], rate: int, max_seconds: float
) -> Iterator[npt.NDArray[np.generic]]:
    frames = 0
    # Resampling may give a frame more.
    most = int(max_seconds * rate) + 1
    for block in blocks:
        frames += len(block)
        if frames > most:
            raise _too_long(max_seconds)
        yield block


def _too_long(max_seconds: float) -> InvalidRequestError:
    return _refusal(
        f"The audio is longer than {max_seconds:g} s, the longest that any model here makes. Cut "
        "it to the part that is to be edited."
    )


def _broken(file: sf.SoundFile, frames: int, reason: str = "") -> InvalidRequestError:
    return _refusal(
        f"The file breaks off or is damaged after {frames / file.samplerate:.2f} s{reason}. Send "
        "it whole."
    )


def _reason(error: Exception) -> str:
    told = error.error_string if isinstance(error, sf.LibsndfileError) else str(error)
    return str(told).removeprefix("Error : ").rstrip(". ")


def _refusal(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param="audio")
