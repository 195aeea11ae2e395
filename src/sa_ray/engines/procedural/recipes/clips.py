"""One-shots: short mono clips (float32 ``[samples]``, peak 1) that events play."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sa_ray.contracts import SAMPLE_RATE
from sa_ray.engines.procedural.loops import band, bin_frequencies
from sa_ray.engines.procedural.scene import F32, F64

Formants = Sequence[tuple[float, float, float]]
"""Resonances of a throat: ``(Hz, bandwidth in Hz, gain)``."""

VOWEL_A: Formants = ((750, 110, 1.0), (1150, 130, 0.7), (2600, 200, 0.25))
"""As in "father"; the first two formants after Peterson and Barney (1952)."""


def clock(seconds: float) -> F64:
    """Return the seconds at each sample of a clip (at least one sample)."""
    return np.arange(max(1, round(seconds * SAMPLE_RATE))) / SAMPLE_RATE


def finish(clip: npt.NDArray[np.floating], attack: float = 0.001, release: float = 0.01) -> F32:
    """Scale to peak 1; ramp the ends over ``attack`` and ``release`` seconds, so no edge clicks."""
    shaped = clip.astype(np.float32)
    for seconds, part in ((attack, shaped), (release, shaped[::-1])):
        ramp = min(len(shaped), max(1, round(seconds * SAMPLE_RATE)))
        part[:ramp] *= np.linspace(0, 1, ramp, endpoint=False, dtype=np.float32)
    return shaped / max(float(np.abs(shaped).max()), 1e-9)


def mixed(*parts: tuple[float, F32]) -> F32:
    """Mix ``(gain, clip)`` pairs from a common start, scaled to peak 1."""
    total = np.zeros(max(len(clip) for _, clip in parts), np.float32)
    for gain, clip in parts:
        total[: len(clip)] += gain * clip
    return total / max(float(np.abs(total).max()), 1e-9)


def partials(
    seconds: float,
    frequencies: npt.ArrayLike,
    amplitudes: npt.ArrayLike,
    decays: npt.ArrayLike,
    attack: float = 0.001,
) -> F32:
    """A struck body: sines at ``frequencies`` Hz that fall by 1/e in ``decays`` seconds.

    Each sine is the imaginary part of ``a * z**n``. Splitting ``n`` into a coarse and a fine part
    makes the sum over partials one matrix product.
    """
    freqs, amps, taus = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (frequencies, amplitudes, decays))
    )
    audible = freqs < 0.45 * SAMPLE_RATE
    exponent = (-1 / taus + 2j * np.pi * freqs)[audible, None] / SAMPLE_RATE
    count = max(1, round(seconds * SAMPLE_RATE))
    width = 256
    coarse = np.exp(exponent * (np.arange(-(-count // width)) * width)) * amps[audible, None]
    fine = np.exp(exponent * np.arange(width))
    wave = (
        coarse.real.T.astype(np.float32) @ fine.imag.astype(np.float32)
        + coarse.imag.T.astype(np.float32) @ fine.real.astype(np.float32)
    )  # fmt: skip
    return finish(wave.ravel()[:count], attack)


def burst(
    rng: np.random.Generator,
    seconds: float,
    low: float,
    high: float,
    decay: float,
    attack: float = 0.001,
) -> F32:
    """Noise between ``low`` and ``high`` Hz that falls by 1/e in ``decay`` seconds."""
    time = clock(seconds)
    size = max(256, 1 << (len(time) - 1).bit_length())
    spectrum = np.fft.rfft(rng.standard_normal(size)) * band(bin_frequencies(size), low, high)
    noise = np.fft.irfft(spectrum, size)[: len(time)]
    return finish(noise * np.exp(-time / decay), attack)


def glide(frequency: F64, harmonics: npt.ArrayLike = (1.0,)) -> F64:
    """A tone that follows ``frequency`` (Hz at each sample), with overtones of these gains."""
    phase = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    gains = np.asarray(harmonics, np.float64)
    top = int(0.45 * SAMPLE_RATE / max(float(frequency.max()), 1.0))
    return sum(
        (gain * np.sin((k + 1) * phase) for k, gain in enumerate(gains[: max(1, top)])),
        np.zeros(len(phase)),
    )


def resonance(frequencies: npt.ArrayLike, formants: Formants) -> F64:
    """Return the gain of a throat at ``frequencies`` Hz."""
    hertz = np.asarray(frequencies, np.float64)
    peaks = (gain / (1 + ((hertz - at) / width) ** 2) for at, width, gain in formants)
    total: F64 = sum(peaks, np.zeros(hertz.shape))
    return total


def voiced(frequency: F64, formants: Formants) -> F64:
    """A cry: a buzz at ``frequency`` (Hz at each sample) through a throat."""
    mean = float(frequency.mean())
    numbers = np.arange(1, max(2, int(6000 / mean)))
    gains = (0.02 + resonance(numbers * mean, formants)) / np.sqrt(numbers)
    return glide(frequency, gains)


def contour(seconds: float, points: Sequence[tuple[float, float]]) -> F64:
    """Curve through ``(fraction of the clip, value)`` points, one value for each sample."""
    where, values = zip(*points, strict=True)
    curve: F64 = np.interp(clock(seconds) / seconds, where, values)
    return curve
