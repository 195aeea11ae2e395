"""A look-ahead peak limiter, on whichever device the audio is."""

from typing import Any

from torch.nn import functional

from sa_ray.contracts import LIMITER_WINDOW, PEAK_CEILING


def limited(audio: Any) -> Any:
    """Return ``audio``, float32 ``[channels, samples]``, with no sample over ``PEAK_CEILING``.

    Both channels get the same gain, which only changes within ``LIMITER_WINDOW`` of a peak; the
    rest is the same to the bit. Clipping instead would add overtones, at most peaks of most
    clips: the models often pass full scale.
    """
    if not audio.shape[-1]:
        return audio
    loudest = audio.abs().amax(dim=0, keepdim=True)
    allowed = PEAK_CEILING / loudest.clamp(min=PEAK_CEILING)
    around = LIMITER_WINDOW // 2
    lowest = -functional.max_pool1d(-allowed, LIMITER_WINDOW, stride=1, padding=around)
    # A mean of what is allowed around each sample: at a peak, of values no larger than its own.
    gain = functional.avg_pool1d(
        lowest, LIMITER_WINDOW, stride=1, padding=around, count_include_pad=False
    )
    return (audio * gain).clamp(-PEAK_CEILING, PEAK_CEILING)  # the mean may round up
