"""A look-ahead peak limiter, on whichever device the audio is."""

from typing import Any, Final

from torch.nn import functional

from sa_ray.contracts import PEAK_CEILING

WINDOW: Final = 243
"""Samples over which the gain falls and rises around a peak, odd: 5.5 ms at 44.1 kHz."""


def limited(audio: Any) -> Any:
    """Return ``audio``, float32 ``[channels, samples]``, with no sample over ``PEAK_CEILING``.

    Both channels get the same gain, which only changes within ``WINDOW`` of a peak; the rest is
    the same to the bit. Clipping instead would add overtones, at most peaks of most clips: the
    models often pass full scale.
    """
    if not audio.shape[-1]:
        return audio
    loudest = audio.abs().amax(dim=0, keepdim=True)
    allowed = PEAK_CEILING / loudest.clamp(min=PEAK_CEILING)
    around = WINDOW // 2
    lowest = -functional.max_pool1d(-allowed, WINDOW, stride=1, padding=around)
    # A mean of what is allowed around each sample: at a peak, of values no larger than its own.
    gain = functional.avg_pool1d(lowest, WINDOW, stride=1, padding=around, count_include_pad=False)
    return (audio * gain).clamp(-PEAK_CEILING, PEAK_CEILING)  # the mean may round up
