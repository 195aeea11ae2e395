"""The limiter: no sample over the ceiling, and nothing changed where none is."""

import numpy as np
import pytest
import torch

from sa_ray.contracts import LIMITER_WINDOW, PEAK_CEILING
from sa_ray.engines.stable_audio.limiter import limited

pytestmark = pytest.mark.upstream

RATE = 44_100


def tone(seconds: float, level: float) -> torch.Tensor:
    time = torch.arange(int(seconds * RATE)) / RATE
    return level * torch.stack([torch.sin(2 * torch.pi * 440 * time)] * 2)


@pytest.mark.parametrize("seed", range(5))
def test_no_sample_passes_the_ceiling_and_no_sign_changes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(2, RATE, generator=generator) * torch.rand(RATE, generator=generator) * 2

    found = limited(audio)

    assert audio.abs().max() > 2
    assert found.abs().max() <= PEAK_CEILING
    assert found.abs().max() > 0.95 * PEAK_CEILING
    assert (found.sign() == audio.sign()).all()
    assert (found.abs() <= audio.abs()).all()


def test_what_stays_below_the_ceiling_is_the_same_to_the_bit() -> None:
    audio = tone(1.0, 0.97)
    torch.testing.assert_close(limited(audio), audio, rtol=0, atol=0)


def test_only_the_neighbourhood_of_a_peak_changes_and_for_both_channels_alike() -> None:
    audio = tone(1.0, 0.5)
    audio[0, 20_000] = 3.0

    found = limited(audio)

    changed = (found != audio).any(dim=0).nonzero().flatten()
    assert changed.min() >= 20_000 - LIMITER_WINDOW
    assert changed.max() <= 20_000 + LIMITER_WINDOW
    torch.testing.assert_close(found[1] / audio[1], found[0] / audio[0], equal_nan=True)


def test_a_loud_tone_stays_a_tone_where_clipping_adds_overtones() -> None:
    audio = tone(1.0, 2.0)

    def overtones(samples: torch.Tensor) -> float:
        power = np.abs(np.fft.rfft(samples[0].numpy() * np.hanning(RATE))) ** 2
        return float(power[600:].sum() / power.sum())

    assert overtones(limited(audio)) < 1e-5
    assert overtones(audio.clamp(-PEAK_CEILING, PEAK_CEILING)) > 1e-3


def test_broken_samples_stay_visible_and_an_empty_clip_is_one() -> None:
    audio = tone(0.1, 0.5)
    audio[1, 7] = torch.nan

    assert limited(audio).isnan().any()
    assert limited(torch.empty(2, 0)).shape == (2, 0)
