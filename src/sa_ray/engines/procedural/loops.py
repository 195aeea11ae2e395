"""Seamless loops made in the frequency domain: noise, pads and showers of grains.

One inverse FFT turns a spectrum with random phases into a loop without a seam, so a long clip costs
little more than copying. Loops last up to 12 s, and each is played under slow curves of gain.
"""

from collections.abc import Iterable

import numpy as np

from sa_ray.contracts import SAMPLE_RATE
from sa_ray.engines.procedural.scene import F32, F64

_MIN_LOOP = 2**16
_MAX_LOOP = 2**19


def loop_size(samples: int) -> int:
    """Return a power of two (fast FFT) that covers ``samples``, within [2**16, 2**19]."""
    return min(max(_MIN_LOOP, 1 << (samples - 1).bit_length()), _MAX_LOOP)


def bin_frequencies(size: int) -> F64:
    """Return the Hz of each FFT bin; bin 0 stands at half a bin, so that its powers are finite."""
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float64)
    frequencies[0] = frequencies[1] / 2
    return frequencies


def band(frequencies: F64, low: float, high: float, order: int = 2) -> F64:
    """Magnitude of a band-pass: Butterworth slopes of ``6 * order`` dB per octave."""
    below = 1 + (low / frequencies) ** (2 * order)
    above = 1 + (frequencies / high) ** (2 * order)
    return 1 / np.sqrt(below * above)


def tilt(frequencies: F64, exponent: float) -> F64:
    """Magnitude ``f ** -exponent``: 0.5 is pink noise (power 1/f), 1 is brown (1/f^2)."""
    return (frequencies / 1000.0) ** -exponent


def noise_loop(rng: np.random.Generator, size: int, magnitude: F64) -> F32:
    """Gaussian noise ``[2, size]`` of this spectrum (by FFT bin); RMS 1, channels independent."""
    parts = rng.standard_normal((2, size // 2 + 1, 2), dtype=np.float32)
    spectrum = parts.view(np.complex64)[..., 0] * magnitude.astype(np.float32)
    spectrum[:, 0] = 0
    loop = np.fft.irfft(spectrum, size).astype(np.float32, copy=False)
    loop /= np.sqrt(np.mean(np.square(loop)))
    return loop


def band_loop(
    rng: np.random.Generator, size: int, low: float, high: float, exponent: float = 0.0
) -> F32:
    """Draw noise between ``low`` and ``high`` Hz, tilted by ``exponent``."""
    frequencies = bin_frequencies(size)
    return noise_loop(rng, size, band(frequencies, low, high) * tilt(frequencies, exponent))


def pad_loop(
    rng: np.random.Generator,
    size: int,
    partials: Iterable[tuple[float, float]],
    cents: float = 12.0,
) -> F32:
    """A chorused tone: every ``(Hz, amplitude)`` is spread over ``cents`` of bandwidth, RMS 1.

    The PADsynth method of Nasca Octavian Paul (ZynAddSubFX): Gaussian bands, random phases.
    """
    magnitude = np.zeros(size // 2 + 1)
    resolution = SAMPLE_RATE / size
    for frequency, amplitude in partials:
        if not 15 < frequency < 0.45 * SAMPLE_RATE:
            continue
        spread = max(frequency * (2 ** (cents / 1200) - 1), resolution)
        reach = int(4 * spread / resolution) + 1
        centre = round(frequency / resolution)
        bins = np.arange(max(centre - reach, 1), min(centre + reach, len(magnitude) - 1))
        shape = np.exp(-0.5 * ((bins * resolution - frequency) / spread) ** 2)
        magnitude[bins] += amplitude * shape / np.sqrt(spread)
    return noise_loop(rng, size, magnitude)


def grain_loop(rng: np.random.Generator, size: int, per_second: float, grains: F32) -> F32:
    """Strew ``grains`` ``[kinds, length]`` at random over ``[2, size]``, wrapping round.

    Loudness is log-normal, as for drops near and far, and cut off at 12 dB.
    """
    count = max(1, round(per_second * size / SAMPLE_RATE))
    chosen = grains[rng.integers(len(grains), size=count)]
    loudness = np.minimum(rng.lognormal(-0.5, 0.8, (count, 1)), 4.0)
    chosen = chosen * loudness.astype(np.float32)
    where = rng.integers(size, size=(count, 1)) + np.arange(grains.shape[1])
    pan = rng.uniform(0, np.pi / 2, (count, 1)).astype(np.float32)
    flat = (where % size).ravel()
    channels = [np.bincount(flat, (chosen * g).ravel(), size) for g in (np.cos(pan), np.sin(pan))]
    return np.stack(channels).astype(np.float32)
