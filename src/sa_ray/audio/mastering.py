"""Master a clip: channels, sample rate, fades and level, before it is encoded."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr

from sa_ray.audio.limiting import limited, true_peak
from sa_ray.contracts import DEFAULT_LOUDNESS, INAUDIBLE, PEAK_CEILING, OutputFields

TRUE_PEAK_CEILING: Final = 10 ** (-1 / 20)
"""Largest true peak of a clip of a given loudness: -1 dBTP (EBU R128, AES TD1008)."""

ROUNDS: Final = 4
"""Most passes to reach a loudness: limiting takes some of what the gain has added."""

TOLERANCE_LU: Final = 0.1

MAX_PUSH_LU: Final = 12.0
"""Most gain in all to make up for limiting. A single click cannot become loud, only ugly."""

LAP: Final = 4704
"""Fewest samples of a loop that are resampled with it, before and behind."""

_Samples = npt.NDArray[np.float32]


def mastered(
    samples: _Samples,
    sample_rate: int,
    target_rate: int,
    output: OutputFields,
    *,
    limit: bool = False,
    loop: bool = False,
) -> _Samples:
    """Return ``samples`` ``[channels, n]`` as ``output`` wants them, at ``target_rate`` Hz.

    Without choices the very same array comes back. Otherwise ``round(n * target_rate /
    sample_rate)`` samples do, in [-1, 1].

    ``limit``: the samples have not been limited yet. ``loop``: the end goes over into the start.
    """
    made = samples
    if output.channels == 1 and samples.shape[0] > 1:
        samples = samples.mean(axis=0, keepdims=True)
    if target_rate != sample_rate:
        samples = _resampled(samples, sample_rate, target_rate, loop=loop)
    samples = _faded(samples, target_rate, output)
    match output.normalize:
        case "loudness":
            loudness = output.loudness or DEFAULT_LOUDNESS
            return _at_loudness(samples, target_rate, loudness, loop=loop)
        case "peak":
            return _at_peak(samples)
        case "limit" if limit or samples is not made:  # else it is as the engine limited it
            return limited(samples, PEAK_CEILING, loop=loop)
        case _:
            return samples


def loudness_of(samples: _Samples, sample_rate: int) -> float:
    """Return the integrated loudness (ITU-R BS.1770) in LUFS; -inf if there is only silence.

    ``samples``: ``[channels, n]`` of ``MIN_LOUDNESS_SECONDS`` or more.
    """
    # Imported at first use: it brings SciPy, which takes half a second.
    from pyloudnorm import Meter

    with np.errstate(divide="ignore"):
        return float(Meter(sample_rate).integrated_loudness(samples.T.astype(np.float64)))


def _resampled(samples: _Samples, rate: int, target: int, *, loop: bool) -> _Samples:
    n = samples.shape[1]
    frames = round(n * target / rate)
    if loop:
        # At the ratio of the lengths, which is not quite that of the rates: else a part of a sample
        # would be missing at the end. The filter would mix the ends with silence, so there is more
        # of the loop before and behind, as much as makes whole samples.
        step = n // math.gcd(n, frames)
        lap = step * math.ceil(LAP / step)
        around = np.pad(samples, ((0, 0), (lap, lap)), mode="wrap")
        start = lap * frames // n
        looped: _Samples = soxr.resample(around.T, n, frames).T[:, start : start + frames]
        return np.ascontiguousarray(looped)
    resampled: _Samples = soxr.resample(samples.T, rate, target).T
    missing = max(0, frames - resampled.shape[1])
    return np.ascontiguousarray(np.pad(resampled, ((0, 0), (0, missing)))[:, :frames])


def _faded(samples: _Samples, rate: int, output: OutputFields) -> _Samples:
    fade_in, fade_out = round(output.fade_in * rate), round(output.fade_out * rate)
    if not fade_in and not fade_out:
        return samples
    faded = samples.copy()
    frames = samples.shape[1]
    faded[:, :fade_in] *= _rise(fade_in)[:frames]
    if fade_out:
        faded[:, -fade_out:] *= _rise(fade_out)[::-1][-frames:]
    return faded


def _rise(frames: int) -> _Samples:
    """A raised cosine from 0 to 1, without a corner at either end."""
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(frames) / max(1, frames))).astype(np.float32)


def _at_peak(samples: _Samples) -> _Samples:
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak < INAUDIBLE else samples * np.float32(PEAK_CEILING / peak)


def _at_loudness(samples: _Samples, rate: int, target: float, *, loop: bool) -> _Samples:
    found = loudness_of(samples, rate)
    if not np.isfinite(found):
        return samples
    wanted = gain = target - found
    for _ in range(ROUNDS):
        louder = samples * np.float32(10 ** (gain / 20))
        calm = _under_ceiling(louder, loop=loop)
        if calm is louder:  # nothing was taken from it
            break
        louder = calm
        missing = target - loudness_of(louder, rate)
        if abs(missing) <= TOLERANCE_LU or gain - wanted >= MAX_PUSH_LU:
            break
        gain = min(gain + missing, wanted + MAX_PUSH_LU)
    return louder


def _under_ceiling(samples: _Samples, *, loop: bool) -> _Samples:
    """The same array, if no true peak passes the ceiling."""
    calm = limited(samples, TRUE_PEAK_CEILING, oversampled=True, loop=loop)
    if calm is samples:
        return samples
    # The gain that changes adds a little of its own between the samples.
    peak = true_peak(calm)
    return calm if peak <= TRUE_PEAK_CEILING else calm * np.float32(TRUE_PEAK_CEILING / peak)
