"""What the self-test hears: silence, static and broken numbers, and sound that is none of them."""

import numpy as np
import pytest

from sa_ray.engines.stable_audio.selftest import fault_of, spectral_flatness

pytestmark = pytest.mark.upstream

RATE = 44_100


def stereo(mono: np.ndarray) -> np.ndarray:
    return np.stack([mono, mono]).astype(np.float32)


def pink_noise(seed: int) -> np.ndarray:
    """Noise whose power falls with frequency, as rain and wind do."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(RATE))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum)
    return np.asarray(0.3 * noise / np.abs(noise).max())


def test_noise_is_static() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE)
    assert "static" in str(fault_of(stereo(noise)))


@pytest.mark.parametrize(("level", "fault"), [(0.0, "it is silent"), (0.4, "it is constant")])
def test_a_constant_is_no_sound(level: float, fault: str) -> None:
    assert fault_of(stereo(np.full(RATE, level))) == fault


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_one_broken_sample_is_enough(number: float) -> None:
    samples = stereo(pink_noise(0))
    samples[1, 77] = number

    assert fault_of(samples) == "it has samples that are not numbers"


@pytest.mark.parametrize("seed", range(5))
def test_natural_noise_passes(seed: int) -> None:
    assert fault_of(stereo(pink_noise(seed))) is None


def test_a_tone_passes() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert fault_of(stereo(tone)) is None


def test_flatness_is_high_for_white_noise_and_low_for_a_tone() -> None:
    white = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    tone = np.sin(np.arange(RATE) / 7).astype(np.float32)

    # exp(-gamma): the mean logarithm of an exponential variable of mean 1 is -0.5772.
    assert spectral_flatness(white) == pytest.approx(0.5615, abs=0.01)
    assert spectral_flatness(tone) < 0.01
