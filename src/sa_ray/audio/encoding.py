"""Encode samples as WAV, FLAC, MP3 or Ogg Opus.

Nothing here keeps state, and the codecs release the interpreter lock: call it from any thread.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile as sf

from sa_ray.audio.id3 import id3_tag
from sa_ray.audio.pcm import SHORT_BITS, to_integers, within_range
from sa_ray.audio.resampling import BLOCK_FRAMES, resampled
from sa_ray.audio.wav import wav_file
from sa_ray.contracts import MAX_OPUS_BITRATE, MPEG_1_LEAST_HZ, OPUS_SAMPLE_RATE, AudioFormat

MAX_TAG_BYTES: Final = 2_000
"""Longest tag written, UTF-8 bytes. libsndfile skips the whole INFO list of a WAV file that
holds a string of 2048 bytes or more."""

TAGS: Final = ("title", "comment", "software")

_OPUS_LEAST: Final = 6
"""kbit/s for each channel, from which on libsndfile's level chooses, up to the most there is."""

_HIGHEST_LEVEL: Final = 0.999
"""libsndfile refuses 1 for MP3; LAME takes the nearest bit rate there is."""

_NONCHARACTERS: Final = {0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}
"""What libFLAC refuses, and what would read as a byte order mark in UTF-16."""

_Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Codec:
    container: str
    subtype: str
    bits: int | None = None
    """Of the integers that it takes; None: it takes floats."""
    sample_rate: int | None = None
    """Hz of the file; None: that of the samples."""
    options: Mapping[str, object] = field(default_factory=dict)
    has_id3: bool = False
    """Whether the tags go before what libsndfile writes, in place of its own."""


_CODECS: Final[Mapping[AudioFormat, _Codec]] = MappingProxyType(
    {
        "flac": _Codec("FLAC", "PCM_16", bits=16),
        # LAME's -V2, some 190 kbit/s for stereo: libsndfile hands LAME ten times the level.
        "mp3": _Codec(
            "MP3",
            "MPEG_LAYER_III",
            options={"bitrate_mode": "VARIABLE", "compression_level": 0.2},
            # libsndfile's would lie behind the audio, where FFmpeg takes those 128 bytes of a
            # short file for a second one, and then ignores the length in the Xing/LAME header.
            has_id3=True,
        ),
        # 160 kbit/s for stereo: libsndfile asks Opus for 256 - 250 * level kbit/s per channel.
        "ogg": _Codec(
            "OGG", "OPUS", sample_rate=OPUS_SAMPLE_RATE, options={"compression_level": 0.704}
        ),
    }
)


def encode(
    samples: _Samples,
    sample_rate: int,
    fmt: AudioFormat,
    *,
    tags: Mapping[str, str],
    bit_depth: int | None = None,
    bitrate: int | None = None,
    loop: bool = False,
) -> bytes:
    """Encode float32 ``samples`` ``[channels, n]``, nominally in [-1, 1] and clipped to it.

    - ``wav`` and ``flac`` hold exactly ``n`` frames at ``sample_rate``, PCM of 16 or 24 bits
      (``bit_depth``; None: 16), ``wav`` also floats of 32. Of integers the audio begins at byte 44
      in ``wav``.
    - ``mp3`` is of variable bit rate, or of the constant ``bitrate`` kbit/s. Its Xing/LAME header
      records the encoder's delay and padding: decoders that honour it (libsndfile, FFmpeg on a
      file, Chromium) give exactly ``n`` frames in step with the input; others (SoX) prepend about
      1105 frames and round up to whole ones of 1152. The header has no room in frames of a constant
      rate under 64.
    - ``ogg`` is Opus at 48 kHz, of some ``bitrate`` kbit/s (None: 80 for each channel):
      ``n * 48000 / sample_rate`` frames to the nearest one, in step with the input by the pre-skip
      and the last granule position (RFC 7845, sections 4.2 and 4.4). Its random stream serial
      number makes the bytes differ each time, but not the sound; the other formats repeat byte for
      byte.

    ``tags`` may hold ``title``, ``comment`` and ``software``: INFO chunks of a WAV file, Vorbis
    comments of FLAC and Ogg, an ID3v2 tag of MP3. libsndfile appends its own name to ``software``
    in FLAC and Ogg. Tags longer than ``MAX_TAG_BYTES`` are cut. ``loop``: ``wav`` says that the
    whole of it is a loop; the other formats have no field for that.

    Raises ``GenerationError`` if a sample is not finite and ``ValueError`` for an unknown tag.
    """
    if unknown := tags.keys() - set(TAGS):
        raise ValueError(f"unknown tags {sorted(unknown)}; the known ones are {TAGS}")
    texts = {name: _tag_text(value) for name, value in tags.items()}
    if fmt == "wav":
        return wav_file(samples, sample_rate, bit_depth or SHORT_BITS, texts, loop=loop)
    codec = _codec(fmt, samples.shape[0], sample_rate, bit_depth, bitrate)
    rate = codec.sample_rate or sample_rate
    buffer = io.BytesIO()
    with sf.SoundFile(
        buffer,
        "w",
        samplerate=rate,
        channels=samples.shape[0],
        format=codec.container,
        subtype=codec.subtype,
        **codec.options,
    ) as file:
        if not codec.has_id3:
            _set_tags(file, texts)
        for block in _blocks(samples, codec, sample_rate, rate):
            file.write(block)
    return id3_tag(texts) + buffer.getvalue() if codec.has_id3 else buffer.getvalue()


def _codec(
    fmt: AudioFormat, channels: int, sample_rate: int, bit_depth: int | None, bitrate: int | None
) -> _Codec:
    codec = _CODECS[fmt]
    if bit_depth is not None:
        return replace(codec, subtype=f"PCM_{bit_depth}", bits=bit_depth)
    if bitrate is None:
        return codec
    if fmt == "ogg":
        level = (MAX_OPUS_BITRATE - bitrate / channels) / (MAX_OPUS_BITRATE - _OPUS_LEAST)
        return replace(codec, options={"compression_level": level})
    # The bit rates of MPEG-1 and of MPEG-2, layer III, between which libsndfile's level chooses.
    least, most = (32, 320) if sample_rate >= MPEG_1_LEAST_HZ else (8, 160)
    level = min((most - bitrate) / (most - least), _HIGHEST_LEVEL)
    return replace(codec, options={"bitrate_mode": "CONSTANT", "compression_level": level})


def _set_tags(file: sf.SoundFile, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        if text:
            setattr(file, name, text)


def _blocks(
    samples: _Samples, codec: _Codec, sample_rate: int, rate: int
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield ``samples`` as the codec takes them, at ``rate`` Hz."""
    blocks = _interleaved(samples)
    if codec.bits:
        return map(partial(to_integers, bits=codec.bits), blocks)
    if rate == sample_rate:
        return blocks
    return resampled(blocks, samples.shape[0], sample_rate, rate)


def _interleaved(samples: _Samples) -> Iterator[_Samples]:
    """Yield clipped copies ``[frames, channels]``, so that a long clip is never held twice."""
    for start in range(0, samples.shape[1], BLOCK_FRAMES):
        block = samples[:, start : start + BLOCK_FRAMES]
        yield within_range(block).T.copy(order="C")


def _tag_text(value: str) -> str:
    # A C string ends at the first NUL.
    text = value.split("\0", 1)[0].translate(_NONCHARACTERS)
    return text.encode(errors="replace")[:MAX_TAG_BYTES].decode(errors="ignore")
