"""What the choices about a file must be together: not every format has every choice."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sa_ray.contracts import (
    MAX_OPUS_BITRATE,
    MIN_LOUDNESS_SECONDS,
    MPEG_1_LEAST_HZ,
    OPUS_SAMPLE_RATE,
    AudioFormat,
    GenerationRequest,
)
from sa_ray.errors import InvalidRequestError

_BIT_DEPTHS: Final[Mapping[AudioFormat, tuple[int, ...]]] = MappingProxyType(
    {"wav": (16, 24, 32), "flac": (16, 24)}
)

_MPEG_1: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""kbit/s that layer III has (ISO/IEC 11172-3, and 13818-3 for the lower sample rates)."""

_ROUNDING_S: Final = 1e-6
"""In floating point, 0.1 and 0.2 are more than 0.3."""


def require_possible_output(request: GenerationRequest, duration: float) -> None:
    """Raise ``InvalidRequestError`` for a choice that the format or another choice rules out.

    ``duration``: seconds of the clip.
    """
    _require_bit_depth(request)
    _require_bitrate(request)
    if request.format == "ogg" and request.sample_rate not in (None, OPUS_SAMPLE_RATE):
        raise _impossible(
            "sample_rate", f"ogg (Opus) has {OPUS_SAMPLE_RATE} Hz alone. Leave it out."
        )
    if request.loudness is not None and request.normalize != "loudness":
        raise _impossible("loudness", 'it goes with "normalize": "loudness".')
    if request.normalize == "loudness" and duration < MIN_LOUDNESS_SECONDS:
        raise _impossible(
            "normalize",
            f"a clip under {MIN_LOUDNESS_SECONDS} s has no loudness; peak works for any.",
        )
    if request.fade_in + request.fade_out > duration + _ROUNDING_S:
        raise _impossible(
            "fade_out" if request.fade_out else "fade_in",
            f"fade_in and fade_out are {request.fade_in + request.fade_out:g} s together, the clip "
            f"{duration:g} s. Ask for shorter ones.",
        )


def _require_bit_depth(request: GenerationRequest) -> None:
    depths = _BIT_DEPTHS.get(request.format, ())
    if request.bit_depth is None or request.bit_depth in depths:
        return
    if not depths:
        raise _impossible("bit_depth", f"{request.format} has none. Leave it out, or set bitrate.")
    raise _impossible("bit_depth", f"of {request.format} it is {_or(depths)}.")


def _require_bitrate(request: GenerationRequest) -> None:
    if request.bitrate is None:
        return
    if request.format == "mp3":
        low = request.sample_rate is not None and request.sample_rate < MPEG_1_LEAST_HZ
        rates = _MPEG_2 if low else _MPEG_1
        if request.bitrate not in rates:
            raise _impossible("bitrate", f"of mp3 at this sample rate it is {_or(rates)}.")
    elif request.format != "ogg":
        raise _impossible("bitrate", f"{request.format} has none. Leave it out.")
    elif request.channels == 1 and request.bitrate > MAX_OPUS_BITRATE:
        raise _impossible("bitrate", f"of ogg with one channel it is {MAX_OPUS_BITRATE} at most.")


def _impossible(field: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {reason}", param=field)


def _or(values: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
