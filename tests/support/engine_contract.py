"""What every engine owes the replica."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sa_ray.contracts import SAMPLE_RATE, Region, ResolvedRequest
from sa_ray.engines import Audio, Cancelled, Engine, Generated

SAME_AUDIO = 1e-4
"""Largest sample difference that still counts as the same: batched arithmetic may round apart."""


INPAINTED = {"regions": (Region(start=0.25, end=0.75),)}
FROM_AUDIO = {"init_noise_level": 0.6}


def wanted(prompt: str = "rain on a window", **changes: object) -> ResolvedRequest:
    fields: dict[str, object] = {
        "model": "small-sfx",
        "prompt": prompt,
        "duration": 1.0,
        "steps": 4,
        "cfg_scale": 1.0,
        "seed": 7,
    }
    return ResolvedRequest.model_validate(fields | changes)


def tone(hertz: float = 440.0, duration: float = 1.0) -> Audio:
    """A source: a tone, louder on the left."""
    wave = np.sin(2 * np.pi * hertz * np.arange(round(duration * SAMPLE_RATE)) / SAMPLE_RATE)
    return np.stack([0.4 * wave, 0.2 * wave]).astype(np.float32)


def clips(
    engine: Engine, *batch: ResolvedRequest, sources: Sequence[Audio | None] = ()
) -> list[np.ndarray]:
    outcomes = engine.generate(batch, lambda row, fraction: None, lambda row: False, sources)
    assert len(outcomes) == len(batch)
    samples = []
    for outcome in outcomes:
        assert isinstance(outcome, Generated), outcome
        samples.append(outcome.samples)
    return samples


class EngineContract:
    """A suite names a subclass ``Test...`` and has a fixture ``engine``, of ``small-sfx``."""

    def test_is_not_known_to_be_broken(self, engine: Engine) -> None:
        assert engine.fault is None

    def test_announces_itself(self, engine: Engine) -> None:
        assert engine.name in ("procedural", "stable-audio-3")
        assert engine.device in ("cpu", "cuda", "mps")
        assert engine.sample_rate == 44_100

    def test_nothing_is_wrong_with_its_speed(self, engine: Engine) -> None:
        assert engine.slowdown is None
        assert engine.calibration is None or engine.calibration.max_rows >= 1

    @pytest.mark.parametrize("duration", [0.01, 0.5, 1.0, 1.2345678, 2.00001, 3.3333])
    def test_clip_is_stereo_float32_of_the_exact_length(
        self, engine: Engine, duration: float
    ) -> None:
        (samples,) = clips(engine, wanted(duration=duration))

        assert samples.dtype == np.float32
        assert samples.shape == (2, round(duration * engine.sample_rate))
        assert np.abs(samples).max() <= 1.0
        assert np.abs(samples).max() > 0.01

    def test_same_request_gives_the_same_audio(self, engine: Engine) -> None:
        (first,), (again,) = clips(engine, wanted()), clips(engine, wanted())

        np.testing.assert_array_equal(first, again)

    @pytest.mark.parametrize(
        "change", [{"seed": 8}, {"seed": 2**32 - 1}, {"prompt": "a church bell"}]
    )
    def test_another_seed_or_prompt_gives_other_audio(
        self, engine: Engine, change: dict[str, Any]
    ) -> None:
        (first,), (other,) = clips(engine, wanted()), clips(engine, wanted(**change))

        assert np.abs(first - other).max() > 0.01

    def test_batch_mates_do_not_change_the_audio(self, engine: Engine) -> None:
        requests = [wanted(), wanted("a dog barks", duration=0.7), wanted(seed=8, duration=1.5)]

        batch = clips(engine, *requests)

        for together, request in zip(batch, requests, strict=True):
            (alone,) = clips(engine, request)
            np.testing.assert_allclose(together, alone, atol=SAME_AUDIO)

    def test_equal_requests_in_a_batch_are_rendered_alike(self, engine: Engine) -> None:
        first, second = clips(engine, wanted(), wanted())

        np.testing.assert_allclose(first, second, atol=SAME_AUDIO)

    def test_a_row_cancelled_at_the_start_takes_no_step(self, engine: Engine) -> None:
        seen: list[int] = []

        outcomes = engine.generate(
            [wanted(), wanted()], lambda row, fraction: seen.append(row), lambda row: row == 0
        )

        assert isinstance(outcomes[0], Cancelled)
        assert isinstance(outcomes[1], Generated)
        assert set(seen) == {1}

    def test_one_step_is_enough(self, engine: Engine) -> None:
        reports: list[float] = []

        engine.generate(
            [wanted(steps=1)], lambda row, fraction: reports.append(fraction), lambda row: False
        )

        assert reports == [1.0]

    def test_an_empty_batch_has_no_outcomes(self, engine: Engine) -> None:
        assert engine.generate([], lambda row, fraction: None, lambda row: False) == []

    def test_without_a_source_the_prompt_decides_alone(self, engine: Engine) -> None:
        (plain,), (told,) = clips(engine, wanted()), clips(engine, wanted(), sources=[None])

        np.testing.assert_array_equal(plain, told)

    @pytest.mark.parametrize("duration", [0.8, 1.0, 1.2345678])
    @pytest.mark.parametrize("edit", [INPAINTED, FROM_AUDIO])
    def test_an_edit_has_the_exact_length_and_repeats(
        self, engine: Engine, edit: dict[str, Any], duration: float
    ) -> None:
        request = wanted(duration=duration, **edit)
        source = tone(duration=duration)
        given = source.copy()

        (samples,) = clips(engine, request, sources=[source])
        (again,) = clips(engine, request, sources=[source])

        assert samples.dtype == np.float32
        assert samples.shape == (2, round(duration * engine.sample_rate))
        assert np.abs(samples).max() <= 1.0
        np.testing.assert_array_equal(samples, again)
        np.testing.assert_array_equal(source, given)

    @pytest.mark.parametrize("edit", [INPAINTED, FROM_AUDIO])
    @pytest.mark.parametrize("change", [{"seed": 8}, {"prompt": "a church bell"}])
    def test_another_seed_or_prompt_makes_something_else_of_a_source(
        self, engine: Engine, edit: dict[str, Any], change: dict[str, Any]
    ) -> None:
        new = slice(round(0.3 * engine.sample_rate), round(0.6 * engine.sample_rate))

        (first,) = clips(engine, wanted(**edit), sources=[tone()])
        (other,) = clips(engine, wanted(**edit, **change), sources=[tone()])

        assert np.abs(first - other)[:, new].max() > 0.01

    def test_the_source_is_heard_at_a_low_level_and_not_at_the_highest(
        self, engine: Engine
    ) -> None:
        low, high = wanted(init_noise_level=0.3), wanted(init_noise_level=1.0)
        silence = np.zeros_like(tone())

        (near,), (far,) = (clips(engine, low, sources=[one]) for one in (tone(), silence))
        assert np.abs(near - far).max() > 0.01
        (high_up,), (plain,) = clips(engine, high, sources=[tone()]), clips(engine, wanted())
        np.testing.assert_allclose(high_up, plain, atol=SAME_AUDIO)

    def test_sources_of_batch_mates_do_not_change_the_audio(self, engine: Engine) -> None:
        """Nor does the place of a region, nor the length."""
        for requests, sources in (
            (
                [wanted(**FROM_AUDIO), wanted("a dog barks"), wanted(init_noise_level=0.9)],
                [tone(), None, tone(880)],
            ),
            (
                [
                    wanted(**INPAINTED),
                    wanted(regions=(Region(start=0.0, end=0.4), Region(start=0.8, end=1.0))),
                    wanted(**INPAINTED, duration=1.5),
                ],
                [tone(), tone(880), tone(duration=1.5)],
            ),
        ):
            batch = clips(engine, *requests, sources=sources)

            for together, request, source in zip(batch, requests, sources, strict=True):
                (alone,) = clips(engine, request, sources=[source])
                np.testing.assert_allclose(together, alone, atol=SAME_AUDIO)


class StepwiseEngineContract(EngineContract):
    """Of engines in this process, which are heard of, and asked about, at each step."""

    def test_progress_rises_to_one_and_rows_advance_together(self, engine: Engine) -> None:
        reports: list[tuple[int, float]] = []
        batch = [wanted(seed=seed, steps=5) for seed in range(3)]

        engine.generate(
            batch, lambda row, fraction: reports.append((row, fraction)), lambda row: False
        )

        for row in range(3):
            fractions = [fraction for at, fraction in reports if at == row]
            assert len(fractions) == 5
            assert fractions == sorted(set(fractions))
            assert fractions[0] > 0
            assert fractions[-1] == 1.0
        assert {row for row, _ in reports[:3]} == {0, 1, 2}

    def test_a_row_cancelled_midway_is_dropped_and_the_others_finish(self, engine: Engine) -> None:
        batch = [wanted(seed=seed, steps=6) for seed in range(3)]
        steps = [0, 0, 0]

        def count(row: int, fraction: float) -> None:
            steps[row] += 1

        outcomes = engine.generate(batch, count, lambda row: row == 1 and steps[1] >= 2)

        assert isinstance(outcomes[1], Cancelled)
        assert steps == [6, 2, 6]
        for row in (0, 2):
            (alone,) = clips(engine, batch[row])
            outcome = outcomes[row]
            assert isinstance(outcome, Generated)
            np.testing.assert_allclose(outcome.samples, alone, atol=SAME_AUDIO)

    def test_cancelling_every_row_ends_the_batch(self, engine: Engine) -> None:
        seen: list[int] = []

        outcomes = engine.generate(
            [wanted(steps=50), wanted(steps=50)],
            lambda row, fraction: seen.append(row),
            lambda row: len(seen) >= 4,
        )

        assert all(isinstance(outcome, Cancelled) for outcome in outcomes)
        assert len(seen) == 4

    @pytest.mark.parametrize("edit", [INPAINTED, FROM_AUDIO])
    def test_an_edit_cancelled_midway_is_dropped(
        self, engine: Engine, edit: dict[str, Any]
    ) -> None:
        steps = [0, 0]

        def count(row: int, fraction: float) -> None:
            steps[row] += 1

        batch = [wanted(steps=6, **edit)] * 2
        outcomes = engine.generate(
            batch, count, lambda row: row == 1 and steps[1] >= 2, [tone(), tone()]
        )

        assert isinstance(outcomes[0], Generated)
        assert isinstance(outcomes[1], Cancelled)
