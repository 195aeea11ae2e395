"""A look-ahead peak limiter of samples on the host."""

from typing import Final

import numpy as np
import numpy.typing as npt

from sa_ray.audio.resampling import BLOCK_FRAMES, resampled
from sa_ray.contracts import LIMITER_WINDOW

OVERSAMPLING: Final = 4
"""Points between samples at which true peaks are looked for (ITU-R BS.1770-5, annex 2)."""

_Samples = npt.NDArray[np.float32]


def limited(
    samples: _Samples, ceiling: float, *, oversampled: bool = False, loop: bool = False
) -> _Samples:
    """Return ``samples`` ``[channels, n]`` with none over ``ceiling``; the same array if none is.

    All channels get the same gain, which only changes within ``LIMITER_WINDOW`` of a peak; the rest
    is the same to the bit. ``oversampled``: peaks between samples count as well, and come out
    within some hundredths of a dB. ``loop``: the end goes over into the start.
    """
    loudest = _envelope(samples) if oversampled else np.abs(samples).max(axis=0, initial=0.0)
    if float(loudest.max(initial=0.0)) <= ceiling:
        return samples
    from scipy import ndimage

    allowed = ceiling / np.maximum(loudest.astype(np.float64), ceiling)
    mode = "wrap" if loop else "nearest"
    lowest = ndimage.minimum_filter1d(allowed, LIMITER_WINDOW, mode=mode)
    # A mean of what is allowed around each sample: at a peak, of values no larger than its own.
    gain = ndimage.uniform_filter1d(lowest, LIMITER_WINDOW, mode=mode).astype(np.float32)
    calm: _Samples = np.clip(samples * gain, -ceiling, ceiling)
    return calm


def true_peak(samples: _Samples) -> float:
    """Return the largest value between and at the samples ``[channels, n]``, full scale 1."""
    return float(_envelope(samples).max(initial=0.0))


def _envelope(samples: _Samples) -> _Samples:
    """Return for each sample the largest value from it to the next, of all channels."""
    found: _Samples = np.abs(samples).max(axis=0, initial=0.0)
    channels, frames = samples.shape
    blocks = (
        np.ascontiguousarray(samples[:, start : start + BLOCK_FRAMES].T)
        for start in range(0, frames, BLOCK_FRAMES)
    )
    rest, at = np.empty(0, np.float32), 0
    for between in resampled(blocks, channels, 1, OVERSAMPLING):
        rest = np.concatenate([rest, np.abs(between).max(axis=1, initial=0.0)])
        whole = min(len(rest) // OVERSAMPLING, frames - at)
        groups = rest[: whole * OVERSAMPLING].reshape(whole, OVERSAMPLING).max(axis=1, initial=0.0)
        np.maximum(found[at : at + whole], groups, out=found[at : at + whole])
        rest, at = rest[whole * OVERSAMPLING :], at + whole
    return found
