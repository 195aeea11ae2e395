"""Mastering: what comes out is measured."""

import numpy as np
import numpy.typing as npt
import pytest

from sa_ray import audio
from sa_ray.audio.limiting import limited, true_peak
from sa_ray.contracts import LIMITER_WINDOW, PEAK_CEILING, SAMPLE_RATE, OutputFields

Samples = npt.NDArray[np.float32]

TENTH_DB = 10 ** (0.1 / 20)


def noise(seconds: float, level: float = 0.1) -> Samples:
    samples = np.random.default_rng(3).standard_normal((2, round(seconds * SAMPLE_RATE)))
    return (level * samples).astype(np.float32)


def mastered(samples: Samples, rate: int = SAMPLE_RATE, **output: object) -> Samples:
    return audio.mastered(samples, SAMPLE_RATE, rate, OutputFields.model_validate(output))


def looped(samples: Samples, rate: int = SAMPLE_RATE, **output: object) -> Samples:
    wanted = OutputFields.model_validate(output)
    return audio.mastered(samples, SAMPLE_RATE, rate, wanted, loop=True)


@pytest.mark.parametrize("normalize", ["limit", "none"])
def test_without_choices_the_samples_are_not_touched(normalize: str) -> None:
    samples = noise(0.1)

    assert mastered(samples, normalize=normalize) is samples


@pytest.mark.parametrize("rate", [22_050, 48_000])
@pytest.mark.parametrize("frames", [441, 44_100, 70_001])
def test_another_rate_has_the_exact_length_and_the_same_sound(rate: int, frames: int) -> None:
    time = np.arange(frames) / SAMPLE_RATE
    samples = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[np.newaxis]

    found = mastered(samples, rate, channels=1)

    assert found.shape == (1, round(frames * rate / SAMPLE_RATE))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(found.shape[1]) / rate)
    inner = slice(100, -100)
    assert np.abs(found[0] - expected)[inner].max() < 1e-3


def test_one_channel_is_the_mean_of_both() -> None:
    samples = noise(0.1)

    found = mastered(samples, channels=1)

    np.testing.assert_allclose(found[0], (samples[0] + samples[1]) / 2, atol=1e-6)


def test_fades_begin_and_end_in_silence_and_leave_the_middle_alone() -> None:
    samples = np.full((2, SAMPLE_RATE), 0.5, np.float32)

    found = mastered(samples, fade_in=0.25, fade_out=0.5)

    quarter = SAMPLE_RATE // 4
    assert found[:, 0].tolist() == [0, 0]
    assert np.abs(found[:, -1]).max() < 1e-6
    assert np.array_equal(found[:, quarter : 2 * quarter], samples[:, quarter : 2 * quarter])
    assert (np.diff(found[0, :quarter]) >= 0).all()
    assert (np.diff(found[0, 2 * quarter :]) <= 0).all()


def test_fades_may_take_the_whole_clip() -> None:
    found = mastered(np.ones((1, 441), np.float32), channels=1, fade_in=0.005, fade_out=0.005)

    assert found.shape == (1, 441)
    assert 0.9 < found.max() <= 1


@pytest.mark.parametrize("level", [0.001, 0.1, 0.9])
def test_peak_brings_the_largest_sample_to_the_ceiling(level: float) -> None:
    found = mastered(np.clip(noise(0.1, level / 4), -1, 1), normalize="peak")

    assert np.abs(found).max() == pytest.approx(PEAK_CEILING, rel=1e-6)


@pytest.mark.parametrize("normalize", ["peak", "loudness"])
def test_silence_is_not_made_louder(normalize: str) -> None:
    samples = np.zeros((2, SAMPLE_RATE), np.float32)

    assert not mastered(samples, normalize=normalize).any()


@pytest.mark.parametrize("target", [-30.0, -16.0, -10.0])
@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_a_clip_has_the_loudness_that_was_asked_for(target: float, rate: int) -> None:
    found = mastered(noise(2, 0.02), rate, normalize="loudness", loudness=target)

    assert audio.loudness_of(found, rate) == pytest.approx(target, abs=0.5)
    assert true_peak(found) <= 10 ** (-1 / 20) * TENTH_DB


def test_loudness_is_that_of_the_standard() -> None:
    """A stereo sine of 1 kHz at -23 dBFS has -23 LUFS (EBU Tech 3341, case 1)."""
    time = np.arange(20 * 48_000) / 48_000
    sine = 10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * time)

    assert audio.loudness_of(np.stack([sine, sine]).astype(np.float32), 48_000) == pytest.approx(
        -23, abs=0.1
    )


def test_peaks_between_samples_are_limited_too() -> None:
    """A sine at a quarter of the rate, sampled beside its peaks, passes its samples by 3 dB."""
    samples = np.tile(np.array([1, 1, -1, -1], np.float32), 12_000)[np.newaxis]
    assert true_peak(samples) > 1.3

    found = mastered(samples, channels=1, normalize="loudness", loudness=-8.0)

    assert true_peak(found) <= 10 ** (-1 / 20) * TENTH_DB


def test_a_single_click_is_not_blown_up_without_end() -> None:
    samples = np.zeros((1, SAMPLE_RATE), np.float32)
    samples[0, 1000] = 0.5

    found = mastered(samples, channels=1, normalize="loudness", loudness=-8.0)

    assert np.isfinite(found).all()
    assert true_peak(found) <= 10 ** (-1 / 20) * TENTH_DB


def test_limiting_leaves_everything_but_the_surroundings_of_a_peak_alone() -> None:
    samples = noise(1)
    samples[0, 20_000] = 1.5

    found = limited(samples, PEAK_CEILING)

    assert np.abs(found).max() <= PEAK_CEILING
    changed = np.flatnonzero((found != samples).any(axis=0))
    assert changed.min() > 20_000 - LIMITER_WINDOW
    assert changed.max() < 20_000 + LIMITER_WINDOW


def test_what_resampling_adds_is_limited() -> None:
    loud = PEAK_CEILING * np.sign(noise(0.5))

    found = mastered(loud.astype(np.float32), 48_000)

    assert np.abs(found).max() <= PEAK_CEILING


def test_a_resampled_loop_has_its_samples_evenly_all_around() -> None:
    """Whatever its length: here whole samples of another rate do not fill it."""
    for frames, rate in [(70_001, 22_050), (70_001, 48_000), (44_107, 16_000), (44_100, 48_000)]:
        once = np.arange(frames) / frames
        samples = (0.5 * np.sin(2 * np.pi * 3000 * once + 1)).astype(np.float32)[np.newaxis]

        found = looped(samples, rate, channels=1)

        assert found.shape == (1, round(frames * rate / SAMPLE_RATE))
        turn = np.arange(found.shape[1]) / found.shape[1]
        assert np.abs(found[0] - 0.5 * np.sin(2 * np.pi * 3000 * turn + 1)).max() < 1e-4


def test_a_peak_at_the_end_of_a_loop_lowers_its_start_as_well() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    samples = (0.1 * np.cos(2 * np.pi * 100 * time)).astype(np.float32)[np.newaxis]
    samples[:, -20:] *= 9

    found = looped(samples, channels=1, normalize="loudness", loudness=-12.0)

    gain = found[0] / samples[0]
    assert true_peak(found) <= 10 ** (-1 / 20) * TENTH_DB
    assert abs(gain[0] / gain[-1] - 1) < 0.1
