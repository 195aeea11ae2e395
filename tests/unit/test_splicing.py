"""Clips put together: what is kept is kept to the bit, and joins are not heard."""

import io
import struct

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sa_ray import audio
from sa_ray.contracts import PEAK_CEILING, SAMPLE_RATE, OutputFields

Samples = npt.NDArray[np.float32]

FADE = 882


def noise(seed: int, frames: int = 2 * SAMPLE_RATE, level: float = 0.1) -> Samples:
    samples = np.random.default_rng(seed).standard_normal((2, frames))
    return (level * samples).astype(np.float32)


def power(samples: Samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


@pytest.mark.parametrize(
    ("at", "frames", "kept"), [(0, 5, 5), (0, 3, 3), (0, 8, 5), (2, 8, 5), (2, 5, 3), (9, 5, 0)]
)
def test_a_source_lies_at_its_place_in_silence(at: int, frames: int, kept: int) -> None:
    source = noise(1, 5)

    clip = audio.laid_out(source, at, frames)

    assert clip.shape == (2, frames)
    np.testing.assert_array_equal(clip[:, at : at + kept], source[:, :kept])
    clip = clip.copy()
    clip[:, at : at + kept] = 0
    assert not clip.any()


def test_outside_the_spans_no_bit_is_changed() -> None:
    source, made = noise(1), noise(2)
    spans = [(0, 10_000), (20_000, 30_000), (70_000, 2 * SAMPLE_RATE)]

    clip = audio.spliced(source, made, spans, FADE)

    kept = np.ones(clip.shape[1], bool)
    for start, stop in spans:
        kept[start:stop] = False
    np.testing.assert_array_equal(clip[:, kept], source[:, kept])
    assert np.corrcoef(clip[:, kept].ravel(), source[:, kept].ravel())[0, 1] == pytest.approx(
        1, abs=1e-12
    )
    for start, stop in ((0, 10_000 - FADE), (20_000 + FADE, 30_000 - FADE)):
        np.testing.assert_array_equal(clip[:, start:stop], made[:, start:stop])
    assert not np.array_equal(clip[:, 20_000:30_000], made[:, 20_000:30_000])


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_a_join_is_as_loud_as_what_it_joins(alike: float) -> None:
    source = noise(1)
    made = np.float32(alike) * source + np.float32(np.sqrt(1 - alike**2)) * noise(2)

    clip = audio.spliced(source, made, [(20_000, 60_000)], FADE)

    for start in (20_000, 60_000 - FADE):
        joint = power(clip[:, start : start + FADE])
        assert 10 * np.log10(joint / power(source)) == pytest.approx(0, abs=0.5)


def test_joins_of_short_spans_leave_each_other_room() -> None:
    source, made = noise(1, 100), noise(2, 100)

    clip = audio.spliced(source, made, [(50, 60)], FADE)

    np.testing.assert_array_equal(clip[:, :50], source[:, :50])
    np.testing.assert_array_equal(clip[:, 60:], source[:, 60:])
    assert np.abs(clip).max() <= 1


def test_full_scale_is_not_passed_where_loud_sounds_meet() -> None:
    source, made = (np.full((2, 1000), 1.0, np.float32) for _ in range(2))
    made[1] = -1

    assert np.abs(audio.spliced(source, made, [(200, 800)], 100)).max() <= 1


def test_turning_back_undoes_a_turn() -> None:
    clip = noise(1, 101)

    turned = audio.turned(clip, 50)

    np.testing.assert_array_equal(turned[:, 0], clip[:, 50])
    np.testing.assert_array_equal(audio.turned(turned, -50), clip)


def test_a_loop_begins_where_its_ends_differ_least() -> None:
    clip = np.tile(np.float32([0.0, 0.5, 0.2, -0.4]), (2, 100))
    clip[:, 3] = clip[:, 2] + np.float32(0.01)

    by = audio.smoothest_start(clip, 5)

    assert by == 3
    begun = audio.turned(clip, by)
    assert np.abs(begun[:, 0] - begun[:, -1]).max() == pytest.approx(0.01, abs=1e-6)
    assert audio.smoothest_start(audio.turned(clip, 7), 5) == -4


@pytest.mark.parametrize("depth", [16, 24, 32])
@pytest.mark.parametrize("frames", [1, 4_411])
def test_a_wav_of_a_loop_says_where_it_begins_and_ends(depth: int, frames: int) -> None:
    samples = noise(1, frames)[:1]

    plain = audio.encode(samples, SAMPLE_RATE, "wav", tags={"title": "x"}, bit_depth=depth)
    data = audio.encode(
        samples, SAMPLE_RATE, "wav", tags={"title": "x"}, bit_depth=depth, loop=True
    )

    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    assert len(data) % 2 == 0
    chunks = {}
    at = 12
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        chunks[name] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    assert at == len(data)
    smpl = struct.unpack("<15I", chunks[b"smpl"])
    assert smpl[2] == 1_000_000_000 // SAMPLE_RATE
    assert smpl[7] == 1
    assert smpl[10:13] == (0, 0, frames - 1)
    assert smpl[14] == 0
    with (
        soundfile.SoundFile(io.BytesIO(data)) as looped,
        soundfile.SoundFile(io.BytesIO(plain)) as other,
    ):
        assert looped.title == "x"
        np.testing.assert_array_equal(looped.read(), other.read())


def test_a_peak_at_the_end_of_a_loop_lowers_its_start_too() -> None:
    wave = np.full((2, SAMPLE_RATE), 0.5, np.float32)
    wave[:, -1] = 1.0

    found = audio.mastered(wave, SAMPLE_RATE, SAMPLE_RATE, OutputFields(), limit=True, loop=True)

    assert found[0, -1] <= PEAK_CEILING
    assert found[0, 0] == pytest.approx(found[0, -2], abs=1e-3)
    assert found[0, 0] < 0.5
    assert found[0, SAMPLE_RATE // 2] == 0.5


@pytest.mark.parametrize("rate", [22_050, 48_000])
def test_a_loop_is_still_one_at_another_rate(rate: int) -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    wave = np.tile(0.5 * np.sin(2 * np.pi * 441 * time), (2, 1)).astype(np.float32)
    found = audio.mastered(wave, SAMPLE_RATE, rate, OutputFields(), loop=True)

    assert found.shape == (2, rate)
    expected = 0.5 * np.sin(2 * np.pi * 441 * np.arange(rate) / rate)
    assert np.abs(found[0] - expected).max() < 1e-3
