"""The procedural engine, listened to through spectra and envelopes."""

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from sa_ray.contracts import SAMPLE_RATE, ResolvedRequest, VariantName
from sa_ray.engines.port import Generated
from sa_ray.engines.procedural import ProceduralEngine
from sa_ray.engines.procedural.vocabulary import SOUNDS
from sa_ray.errors import GenerationError

FRAME = 441
FRAMES_PER_SECOND = SAMPLE_RATE / FRAME
BANDS = np.geomspace(40, 16_000, 21)
MODULATIONS = (0.2, 1, 2, 4, 8, 16, 50)

EVERYDAY_WORDS = (
    "rain", "thunder", "wind", "ocean", "river", "fire", "engine", "car", "train", "horn", "siren",
    "alarm", "bell", "chime", "clock", "footsteps", "metallic", "thud", "explosion", "whoosh",
    "laser", "drone", "heartbeat", "birds", "crickets", "dog", "cat", "owl", "bees", "crowd",
    "applause", "glass", "knock", "piano", "guitar", "bass", "drums", "techno", "synth", "strings",
    "choir", "organ", "flute", "trumpet", "helicopter", "jet", "gunshot", "typing", "telephone",
)  # fmt: skip


def render(
    prompt: str,
    *,
    seed: int = 1,
    duration: float = 4.0,
    steps: int = 8,
    negative: str | None = None,
    variant: VariantName = "small-sfx",
) -> np.ndarray:
    request = ResolvedRequest(
        model=variant,
        prompt=prompt,
        negative_prompt=negative,
        duration=duration,
        steps=steps,
        cfg_scale=1.0,
        seed=seed,
    )
    (outcome,) = ProceduralEngine(variant).generate(
        [request], lambda row, fraction: None, lambda row: False
    )
    assert isinstance(outcome, Generated), outcome
    return outcome.samples


listen = cache(render)


def power(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz, and the power of the mono mix at each."""
    mono = samples.mean(axis=0)
    return np.fft.rfftfreq(len(mono), 1 / SAMPLE_RATE), np.abs(np.fft.rfft(mono)) ** 2


def share(samples: np.ndarray, low: float, high: float) -> float:
    """The part of all power that lies between two frequencies in Hz."""
    frequencies, strength = power(samples)
    inside = (frequencies >= low) & (frequencies < high)
    return float(strength[inside].sum() / strength.sum())


def flatness(samples: np.ndarray) -> float:
    """Geometric over arithmetic mean of the power spectrum: near 1 is noise, near 0 is tones."""
    frequencies, strength = power(samples)
    inside = strength[(frequencies > 60) & (frequencies < 16_000)]
    return float(np.exp(np.log(inside + 1e-12).mean()) / inside.mean())


def centroid(samples: np.ndarray) -> float:
    frequencies, strength = power(samples)
    return float((frequencies * strength).sum() / strength.sum())


def envelope(samples: np.ndarray) -> np.ndarray:
    """RMS of every 10 ms."""
    mono = samples.mean(axis=0)
    frames = mono[: len(mono) // FRAME * FRAME].reshape(-1, FRAME)
    level: np.ndarray = np.sqrt(np.mean(np.square(frames), axis=1))
    return level


def strongest_period(samples: np.ndarray, low: float, high: float) -> float:
    """Seconds between ``low`` and ``high`` at which the onsets repeat best."""
    onsets = np.maximum(np.diff(envelope(samples)), 0)
    onsets -= onsets.mean()
    match = np.correlate(onsets, onsets, "full")[len(onsets) - 1 :]
    first, last = round(low * FRAMES_PER_SECOND), round(high * FRAMES_PER_SECOND)
    return float((first + match[first:last].argmax()) / FRAMES_PER_SECOND)


def fingerprint(samples: np.ndarray) -> np.ndarray:
    """Colour (log band energies), motion (envelope modulation by rate) and flatness."""
    frequencies, strength = power(samples)
    bands = np.histogram(frequencies, BANDS, weights=strength)[0]
    level = envelope(samples)
    rates = np.fft.rfftfreq(len(level), 1 / FRAMES_PER_SECOND)
    motion = np.histogram(rates, MODULATIONS, weights=np.abs(np.fft.rfft(level)) ** 2)[0]
    return np.concatenate(
        [
            np.log10(bands / bands.sum() + 1e-4),
            3 * np.sqrt(motion) / level.sum(),
            [np.log10(flatness(samples))],
        ]
    )


def test_rain_is_broadband_noise() -> None:
    assert flatness(listen("heavy rain")) > 0.3


def test_a_bell_is_tonal_and_dies_away() -> None:
    samples = listen("a church bell", duration=6.0)
    thirds = [float(np.square(part).sum()) for part in np.array_split(samples, 3, axis=1)]

    assert flatness(samples) < 0.001
    assert thirds[2] < 0.05 * thirds[0]


def test_wind_is_lower_than_rain() -> None:
    assert centroid(listen("wind")) < 0.25 * centroid(listen("rain"))


def test_thunder_rumbles() -> None:
    assert share(listen("thunder"), 20, 300) > 0.7


def test_a_siren_climbs_and_falls() -> None:
    heights = [centroid(part) for part in np.array_split(listen("police siren"), 40, axis=1)]
    assert max(heights) > 1.5 * min(heights)


@pytest.mark.parametrize("style", ["drum loop", "techno", "house"])
@pytest.mark.parametrize("bpm", [90, 120])
def test_drums_keep_the_tempo_asked_for(style: str, bpm: int) -> None:
    period = strongest_period(listen(f"{style} at {bpm} BPM", duration=8.0), 0.35, 0.9)
    assert period == pytest.approx(60 / bpm, abs=0.015)


@pytest.mark.parametrize(
    ("prompt", "period"),
    [("clock ticking", 0.5), ("heartbeat", 60 / 72), ("metronome at 75 bpm", 0.8)],
)
def test_repeating_things_repeat(prompt: str, period: float) -> None:
    found = strongest_period(listen(prompt, duration=8.0), 0.35, 1.2)
    assert found == pytest.approx(period, abs=0.015)


@pytest.mark.parametrize("name", SOUNDS)
def test_every_sound_is_audible_and_unclipped(name: str) -> None:
    samples = listen(SOUNDS[name].words.split(", ")[0])

    assert np.abs(samples).max() <= 0.98
    assert np.sqrt(np.square(samples).mean()) > 0.02
    assert np.abs(samples[:, [0, -1]]).max() < 0.01


def test_everyday_words_sound_different() -> None:
    prints = {word: fingerprint(listen(word)) for word in EVERYDAY_WORDS}
    for one, other in combinations(EVERYDAY_WORDS, 2):
        assert np.linalg.norm(prints[one] - prints[other]) > 1.2, (one, other)


def test_a_word_is_known_again_whatever_the_seed() -> None:
    prints = np.array([fingerprint(listen(word)) for word in EVERYDAY_WORDS])
    others = np.array([fingerprint(listen(word, seed=2)) for word in EVERYDAY_WORDS])
    nearest = np.linalg.norm(prints[:, None] - others[None], axis=2).argmin(axis=1)
    known = (nearest == np.arange(len(EVERYDAY_WORDS))).mean()

    assert known > 0.9


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("drizzle", "rain"),
        ("the sea", "ocean"),
        ("a puppy", "dog"),
        ("running water", "river"),
        ("a fire truck", "siren"),
        ("wind chimes", "chime"),
    ],
)
def test_synonyms_and_phrases_ask_for_the_same_sound(prompt: str, word: str) -> None:
    heard = fingerprint(listen(prompt))
    distance = {w: np.linalg.norm(heard - fingerprint(listen(w))) for w in EVERYDAY_WORDS}

    assert min(distance, key=lambda w: distance[w]) == word


def test_several_words_are_mixed() -> None:
    both = listen("rain and a police siren")

    assert flatness(both) < 0.5 * flatness(listen("rain"))
    assert share(both, 4000, 16_000) > 5 * share(listen("police siren"), 4000, 16_000)


@pytest.mark.parametrize(
    ("prompt", "negative"), [("rain and thunder", "thunder"), ("rain, no thunder", None)]
)
def test_an_unwanted_sound_is_left_out(prompt: str, negative: str | None) -> None:
    with_it = share(listen("rain and thunder"), 20, 200)
    without = share(listen(prompt, negative=negative), 20, 200)

    assert with_it > 0.1
    assert without < 0.1 * with_it


def test_unknown_prompts_still_sound_each_its_own() -> None:
    prints = [
        fingerprint(listen(text)) for text in ("qwertz", "zażółć gęślą", "静けさ", "🦖🦖", "!?")
    ]
    for one, other in combinations(prints, 2):
        assert np.linalg.norm(one - other) > 1.0


def test_modifiers_bend_the_sound() -> None:
    assert centroid(listen("muffled rain")) < 0.5 * centroid(listen("rain"))
    assert centroid(listen("a deep bell")) < centroid(listen("a tiny bell"))

    slow = strongest_period(listen("slow clock ticking", duration=8.0), 0.35, 1.2)
    assert slow > 0.6


def test_a_key_in_the_prompt_is_the_key_heard() -> None:
    frequencies, strength = power(listen("organ in A minor", duration=2.0))
    loudest = frequencies[strength.argmax()]
    semitones_from_a = 12 * np.log2(loudest / 440) % 12
    chord_of_a_minor = np.array([0, 3, 7, 12])

    assert np.abs(semitones_from_a - chord_of_a_minor).min() < 0.3


def test_more_steps_refine_the_same_clip() -> None:
    rough, fine = listen("metronome at 60 bpm", steps=4), listen("metronome at 60 bpm", steps=32)
    pause = slice(round(0.5 * SAMPLE_RATE), round(0.9 * SAMPLE_RATE))

    assert np.corrcoef(rough[0], fine[0])[0, 1] > 0.99
    assert np.abs(fine[:, pause]).max() < 0.1 * np.abs(rough[:, pause]).max()


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"steps": 9}, {"negative": "low quality"}, {"variant": "medium"}]
)
def test_whatever_the_audio_depends_on_changes_it(change: dict[str, Any]) -> None:
    first, other = listen("wind", duration=1.0), listen("wind", duration=1.0, **change)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("duration", [0.00001, 0.0001, 0.01, 0.05, 0.777])
@pytest.mark.parametrize(
    "prompt", ["thunder and a bell", "jazz", "birds and glass", "wub", "choir"]
)
def test_tiny_clips_have_their_exact_length(prompt: str, duration: float) -> None:
    samples = listen(prompt, duration=duration, steps=50)

    assert samples.shape == (2, round(duration * SAMPLE_RATE))
    assert np.isfinite(samples).all()
    if duration >= 0.01:
        assert np.sqrt(np.square(samples).mean()) > 0.005


def test_the_longest_clip_is_alive_to_its_end() -> None:
    samples = render("church bell and birds", duration=380.0, variant="medium")

    assert samples.shape == (2, 380 * SAMPLE_RATE)
    loudness = [np.sqrt(np.square(part).mean()) for part in np.array_split(samples, 38, axis=1)]
    assert min(loudness) > 0.02


def test_a_prompt_of_every_word_is_rendered() -> None:
    everything = ", ".join(sound.words for sound in SOUNDS.values())
    assert np.abs(listen(everything, duration=1.0)).max() <= 0.98


def test_a_row_that_fails_leaves_its_batch_mates_alone(caplog: pytest.LogCaptureFixture) -> None:
    fits = ResolvedRequest(
        model="medium", prompt="rain", duration=0.5, steps=2, cfg_scale=1.0, seed=1
    )
    too_long = fits.model_copy(update={"duration": 1e12})

    outcomes = ProceduralEngine("medium").generate(
        [too_long, fits], lambda row, fraction: None, lambda row: False
    )

    failed = outcomes[0]
    assert isinstance(failed, GenerationError)
    assert isinstance(outcomes[1], Generated)
    # The cause is for the log, which names the row; its text is nobody else's business.
    (logged,) = caplog.records
    assert logged.exc_info
    assert "medium, seed 1, 1000000000000.0 s" in logged.getMessage()
    cause = str(logged.exc_info[1])
    assert cause
    assert cause not in failed.message
