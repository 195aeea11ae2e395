"""The file that a clip is delivered as: what clients choose about it."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field

Normalization = Literal["limit", "none", "peak", "loudness"]

PEAK_CEILING: Final = 10 ** (-0.2 / 20)
"""Largest sample of a clip whose peaks are limited, full scale 1: -0.2 dBFS leaves room for what
encoders add."""

LIMITER_WINDOW: Final = 243
"""Samples over which a limiter's gain falls and rises around a peak, odd: 5.5 ms at 44.1 kHz."""

INAUDIBLE: Final = 1e-4
"""Amplitude up to which samples are no sound, full scale 1: three steps of 16-bit PCM, -80 dBFS."""

MPEG_1_LEAST_HZ: Final = 32_000
"""Lowest sample rate of MPEG-1; MP3 below it is of MPEG-2, which has other bit rates."""

MAX_OPUS_BITRATE: Final = 256
"""kbit/s for each channel (RFC 6716, section 2.1.1)."""

DEFAULT_LOUDNESS: Final = -16.0
"""LUFS, for ``normalize: loudness``: what AES TD1008 recommends for mixed programmes on line."""

MIN_LOUDNESS_SECONDS: Final = 0.4
"""Shortest clip that has a loudness: one gating block (ITU-R BS.1770-5)."""

MAX_EXACT: Final = 2**53
"""Largest integer up to which a JSON number with a point stands for one integer alone."""


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT:
        return int(value)
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
"""An integer, also written as 8.0: JSON has one kind of number, and some languages write it so."""


def _number(value: object) -> object:
    if isinstance(value, bool):  # which equals 0 or 1, and so a literal
        raise ValueError("must be a number")
    return _whole(value)


SampleRate = Annotated[Literal[22_050, 44_100, 48_000], BeforeValidator(_number)]
Channels = Annotated[Literal[1, 2], BeforeValidator(_number)]
BitDepth = Annotated[Literal[16, 24, 32], BeforeValidator(_number)]


class OutputFields(BaseModel):
    """Choices about the file: asked for, resolved and stored; views tell of the finished file.

    Types only, as in ``ClipFields``. Null stands for what the format has by itself.
    """

    sample_rate: int | None = None
    channels: int = 2
    bit_depth: int | None = None
    bitrate: int | None = None
    normalize: Normalization = "limit"
    loudness: float | None = None
    fade_in: float = 0.0
    fade_out: float = 0.0


class OutputRequest(OutputFields):
    """``OutputFields`` with the bounds of a request, as far as they hold of each alone."""

    sample_rate: SampleRate | None = Field(
        default=None,
        description="Hz of the file. Null: 44100, at which the models work; of `ogg` 48000, which "
        "is the only one it has.",
    )
    channels: Channels = Field(
        default=2, description="2 for stereo; 1 mixes both down to their mean."
    )
    bit_depth: BitDepth | None = Field(
        default=None,
        description="Bits of a sample: 16 or 24 of `wav` and `flac`, 32 (floating point) of `wav`. "
        "Null: 16. The other formats have none.",
    )
    bitrate: Whole | None = Field(
        default=None,
        ge=32,
        le=320,
        description="kbit/s of `mp3`, constant then, and of `ogg`. Null: variable, some 190, and "
        "160. The other formats have none.",
    )
    normalize: Normalization = Field(
        default="limit",
        description="The level. `limit`: as it was made, but lowered around peaks over -0.2 dBFS. "
        "`none`: as it was made, and peaks are cut off at full scale. `peak`: such that the "
        "largest sample is at -0.2 dBFS. `loudness`: such that the clip has `loudness`, its true "
        "peaks limited to -1 dBTP.",
    )
    loudness: float | None = Field(
        default=None,
        ge=-40,
        le=-8,
        description=f"LUFS of the clip (ITU-R BS.1770) under `normalize: loudness`. Null: "
        f"{DEFAULT_LOUDNESS:g}.",
    )
    fade_in: float = Field(default=0.0, ge=0, description="Seconds until full level.")
    fade_out: float = Field(default=0.0, ge=0, description="Seconds from full level to silence.")
