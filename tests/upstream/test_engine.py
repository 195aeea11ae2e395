"""The real engine over tiny checkpoints: the contract, and what it promises beyond it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sa_ray.catalogue import CATALOGUE, VARIANTS
from sa_ray.contracts import PEAK_CEILING, VariantName
from sa_ray.engines.flaws import NOT_NUMBERS, flaw_of
from sa_ray.engines.port import Cancelled, EngineOptions, Generated
from sa_ray.engines.stable_audio.bfloat16 import has_bfloat16, multiply_in_bfloat16
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.loading import load as start_replica
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot
from sa_ray.errors import GenerationError
from sa_ray.scheduling.costs import Calibration, cost_of
from tests.support.engine_contract import SAME_AUDIO, StepwiseEngineContract, clips, wanted

pytestmark = pytest.mark.upstream

OTHER_AUDIO = 1e-2

Load = Callable[[VariantName], StableAudioEngine]


@pytest.fixture
def engine(load: Load) -> StableAudioEngine:
    return load("small-sfx")


class TestContract(StepwiseEngineContract):
    pass


def test_announces_itself(engine: StableAudioEngine) -> None:
    assert (engine.name, engine.device, engine.sample_rate) == ("stable-audio-3", "cpu", 44_100)


@pytest.mark.parametrize("duration", [0.01, 0.5, 1.0, 1.2345678, 2.00001, 12.3456])
def test_clip_is_stereo_float32_of_the_exact_length(
    engine: StableAudioEngine, duration: float
) -> None:
    (samples,) = clips(engine, wanted(duration=duration))

    assert samples.dtype == np.float32
    assert samples.shape == (2, round(duration * 44_100))
    assert 0.01 < np.abs(samples).max() <= 1.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_makes_a_clip_of_its_longest_duration(
    load: Load, variant: VariantName
) -> None:
    longest = CATALOGUE[variant].max_duration
    (samples,) = clips(load(variant), wanted(model=variant, duration=longest, steps=1))

    assert samples.shape == (2, round(longest * 44_100))
    assert np.abs(samples[:, -44_100:]).max() > 0.01


def test_a_row_too_long_for_the_model_fails_alone(engine: StableAudioEngine) -> None:
    outcomes = engine.generate(
        [wanted(duration=121.0), wanted()], lambda row, fraction: None, lambda row: False
    )

    assert isinstance(outcomes[0], GenerationError)
    assert "120 seconds" in outcomes[0].message
    assert isinstance(outcomes[1], Generated)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"seed": 2**32 - 1},
        {"prompt": "a church bell"},
        {"cfg_scale": 4.0},
        {"cfg_scale": 4.0, "apg_scale": 0.0},
        {"steps": 8},
    ],
)
def test_what_a_request_says_changes_the_audio(
    engine: StableAudioEngine, change: dict[str, object]
) -> None:
    (first,), (other,) = clips(engine, wanted()), clips(engine, wanted(**change))
    assert np.abs(first - other).max() > OTHER_AUDIO


def test_a_negative_prompt_counts_with_guidance_only(engine: StableAudioEngine) -> None:
    plain, negative = wanted(), wanted(negative_prompt="hiss and hum")
    np.testing.assert_array_equal(*clips(engine, plain), *clips(engine, negative))

    guided = [
        wanted(cfg_scale=6.0, negative_prompt=text) for text in (None, "", "hiss and hum", "bells")
    ]
    without, empty, hiss, bells = (clips(engine, request)[0] for request in guided)

    np.testing.assert_array_equal(without, empty)
    assert np.abs(without - hiss).max() > OTHER_AUDIO / 10
    assert np.abs(hiss - bells).max() > OTHER_AUDIO / 10


MIXED = [
    {},
    {"prompt": "a dog barks", "duration": 0.7},
    {"seed": 8, "duration": 9.5},
    {"prompt": "a very long description of quite a small sound", "duration": 4.2, "seed": 3},
]
SAMPLERS = ["pingpong", "euler", "dpmpp"]
GUIDED = [
    {"cfg_scale": 3.0},
    {"cfg_scale": 7.0, "negative_prompt": "hiss", "duration": 3.1},
    {"cfg_scale": 1.5, "negative_prompt": "voices", "prompt": "a bell", "seed": 1},
    {"cfg_scale": 3.0, "apg_scale": 0.0, "duration": 2.2},
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("changes", [MIXED, GUIDED], ids=["plain", "guided"])
def test_batch_mates_do_not_change_the_audio(
    load: Load, variant: VariantName, changes: list[dict[str, object]]
) -> None:
    engine = load(variant)
    requests = [wanted(**{"model": variant, **change}) for change in changes]

    for together, request in zip(clips(engine, *requests), requests, strict=True):
        (alone,) = clips(engine, request)
        np.testing.assert_allclose(together, alone, atol=SAME_AUDIO)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("changes", [MIXED, GUIDED], ids=["plain", "guided"])
def test_whichever_the_sampler_rows_know_nothing_of_their_mates(
    engine: StableAudioEngine, changes: list[dict[str, object]], sampler: str
) -> None:
    requests = [wanted(**{"sampler": sampler, **change}) for change in changes]
    steps: list[int] = []

    outcomes = engine.generate(
        requests, lambda row, fraction: steps.append(row), lambda row: row == 0 and len(steps) > 8
    )

    assert isinstance(outcomes[0], Cancelled)
    for outcome, request in zip(outcomes[1:], requests[1:], strict=True):
        assert isinstance(outcome, Generated)
        np.testing.assert_allclose(outcome.samples, clips(engine, request)[0], atol=SAME_AUDIO)


def test_samplers_differ_and_pingpong_is_the_default(engine: StableAudioEngine) -> None:
    default = clips(engine, wanted())[0]
    by_name = {name: clips(engine, wanted(sampler=name))[0] for name in SAMPLERS}

    np.testing.assert_array_equal(default, by_name.pop("pingpong"))
    for samples in by_name.values():
        assert np.abs(samples - default).max() > OTHER_AUDIO


@pytest.fixture(scope="module")
def padding_engine(hub_cache: Path) -> StableAudioEngine:
    """Pads to a few shapes, as on a GPU, where each is a CUDA graph."""
    options = EngineOptions(device="cpu")
    model, config = build_model(
        find_snapshot("small-sfx", options), device=torch.device("cpu"), half=False
    )
    return StableAudioEngine("small-sfx", model, config, max_batch_rows=6, pad_shapes=True)


@pytest.mark.parametrize("changes", [MIXED, GUIDED], ids=["plain", "guided"])
def test_padding_to_few_shapes_makes_no_difference(
    engine: StableAudioEngine, padding_engine: StableAudioEngine, changes: list[dict[str, object]]
) -> None:
    requests = [wanted(**change) for change in [*changes, {"duration": 25.0}]]

    padded = clips(padding_engine, *requests)

    for samples, request in zip(padded, requests, strict=True):
        np.testing.assert_allclose(samples, clips(engine, request)[0], atol=SAME_AUDIO)


def test_rows_cancelled_from_a_padded_batch_leave_the_others_as_they_were(
    engine: StableAudioEngine, padding_engine: StableAudioEngine
) -> None:
    batch = [wanted(seed=seed, cfg_scale=2.0, steps=5) for seed in range(5)]
    steps: list[int] = []

    outcomes = padding_engine.generate(
        batch, lambda row, fraction: steps.append(row), lambda row: row < 3 and len(steps) > 5 * row
    )

    assert [type(outcome) for outcome in outcomes] == [Cancelled] * 3 + [Generated] * 2
    for outcome, request in zip(outcomes[3:], batch[3:], strict=True):
        assert isinstance(outcome, Generated)
        np.testing.assert_allclose(outcome.samples, clips(engine, request)[0], atol=SAME_AUDIO)


@pytest.mark.parametrize("changes", [MIXED, GUIDED], ids=["plain", "guided"])
@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
def test_half_precision_sounds_nearly_the_same(
    load: Load, hub_cache: Path, variant: VariantName, changes: list[dict[str, object]]
) -> None:
    options = EngineOptions(device="cpu")
    model, config = build_model(
        find_snapshot(variant, options), device=torch.device("cpu"), half=True
    )
    half = StableAudioEngine(variant, model, config, pad_shapes=True)
    requests = [wanted(**{"model": variant, **change}) for change in changes]
    exact = clips(load(variant), *requests)

    for samples, expected in zip(clips(half, *requests), exact, strict=True):
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, expected, atol=5e-3)


@pytest.mark.parametrize("changes", [MIXED, GUIDED], ids=["plain", "guided"])
@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
def test_products_in_bfloat16_sound_nearly_the_same(
    load: Load, hub_cache: Path, variant: VariantName, changes: list[dict[str, object]]
) -> None:
    options = EngineOptions(device="cpu")
    model, config = build_model(
        find_snapshot(variant, options), device=torch.device("cpu"), half=False
    )
    multiply_in_bfloat16(model, smallest_weight=0)
    engine = StableAudioEngine(variant, model, config)
    requests = [wanted(**{"model": variant, **change}) for change in changes]
    exact = clips(load(variant), *requests)

    for samples, expected in zip(clips(engine, *requests), exact, strict=True):
        np.testing.assert_allclose(samples, expected, atol=5e-3)
        assert np.abs(samples - expected).max() > 0


def test_a_replica_multiplies_in_bfloat16_where_its_cpu_can(hub_cache: Path, load: Load) -> None:
    engine = start_replica("small-sfx", EngineOptions(device="cpu"))
    (samples,), (exact,) = clips(engine, wanted()), clips(load("small-sfx"), wanted())

    np.testing.assert_allclose(samples, exact, atol=5e-3)
    assert (np.abs(samples - exact).max() > 0) == has_bfloat16()


def test_on_a_cpu_one_row_at_a_time_is_known_without_measuring(load: Load) -> None:
    for variant in VARIANTS:
        cost = cost_of(variant, "stable-audio-3", gpu=False)
        assert load(variant).calibration == Calibration(cost=cost, max_rows=1, max_seconds=None)


def test_at_one_shape_the_audio_is_the_same_to_the_bit(engine: StableAudioEngine) -> None:
    request = wanted(duration=2.0)

    first = clips(engine, request, wanted("thunder", seed=1, duration=1.1), wanted(seed=2))
    second = clips(engine, request, wanted("a bird", seed=5), wanted("wind", seed=9, duration=0.3))

    np.testing.assert_array_equal(first[0], second[0])


def test_a_prompt_sounds_the_same_whatever_was_encoded_before(load: Load) -> None:
    engine = load("small-music")
    request = wanted("an oboe", model="small-music")
    (first,) = clips(engine, request)

    others = [wanted(f"prompt {i}", model="small-music", steps=1) for i in range(300)]
    for start in range(0, len(others), 30):
        clips(engine, *others[start : start + 30])
    (again,) = clips(engine, request)

    np.testing.assert_array_equal(first, again)


def test_decoding_in_chunks_makes_no_difference(load: Load) -> None:
    for variant in ("small-sfx", "medium"):
        request = wanted(model=variant, duration=30.0, steps=1)
        whole = request.model_copy(update={"chunked_decode": False})
        (chunked,), (at_once,) = clips(load(variant), request), clips(load(variant), whole)
        np.testing.assert_allclose(chunked, at_once, atol=SAME_AUDIO)


def test_progress_rises_to_one_and_rows_advance_together(engine: StableAudioEngine) -> None:
    reports: list[tuple[int, float]] = []
    batch = [wanted(seed=seed, steps=5) for seed in range(3)]

    engine.generate(batch, lambda row, fraction: reports.append((row, fraction)), lambda row: False)

    assert reports == [
        (row, pytest.approx((step + 1) / 5)) for step in range(5) for row in range(3)
    ]


def test_one_of_four_cancelled_midway_is_dropped_and_the_others_finish(
    engine: StableAudioEngine,
) -> None:
    batch = [wanted(seed=seed, steps=6, duration=1.0 + seed) for seed in range(4)]
    steps = [0, 0, 0, 0]

    def count(row: int, fraction: float) -> None:
        steps[row] += 1

    outcomes = engine.generate(batch, count, lambda row: row == 1 and steps[1] >= 2)

    assert isinstance(outcomes[1], Cancelled)
    assert steps == [6, 2, 6, 6]
    for row in (0, 2, 3):
        outcome = outcomes[row]
        assert isinstance(outcome, Generated)
        (alone,) = clips(engine, batch[row])
        np.testing.assert_allclose(outcome.samples, alone, atol=SAME_AUDIO)


def test_a_guided_row_cancelled_midway_leaves_the_others_as_they_were(
    engine: StableAudioEngine,
) -> None:
    batch = [wanted(seed=s, cfg_scale=2.0 + s, negative_prompt=f"no {s}") for s in range(3)]
    steps: list[int] = []

    outcomes = engine.generate(
        batch, lambda row, fraction: steps.append(row), lambda row: row == 0 and len(steps) >= 3
    )

    assert isinstance(outcomes[0], Cancelled)
    for row in (1, 2):
        outcome = outcomes[row]
        assert isinstance(outcome, Generated)
        np.testing.assert_allclose(outcome.samples, clips(engine, batch[row])[0], atol=SAME_AUDIO)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Make the device run out of memory for batches of more rows than given."""

    def limit(rows: int) -> list[int]:
        attempts: list[int] = []
        attention = torch.nn.functional.scaled_dot_product_attention

        def limited(q: Any, *args: Any, **kwargs: Any) -> Any:
            if q.shape[-2] > 64 and q.shape[0] > rows:
                attempts.append(q.shape[0])
                raise torch.cuda.OutOfMemoryError
            return attention(q, *args, **kwargs)

        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", limited)
        return attempts

    return limit


def test_a_batch_too_large_for_memory_is_halved_until_it_fits(
    engine: StableAudioEngine, memory: Callable[[int], list[int]]
) -> None:
    batch = [wanted(seed=seed) for seed in range(5)]
    expected = [clips(engine, request)[0] for request in batch]
    attempts = memory(2)

    for samples, alone in zip(clips(engine, *batch), expected, strict=True):
        np.testing.assert_allclose(samples, alone, atol=SAME_AUDIO)
    assert attempts == [5, 3]


def test_a_row_that_never_fits_fails_with_what_to_do(
    engine: StableAudioEngine, memory: Callable[[int], list[int]]
) -> None:
    memory(0)

    (outcome,) = engine.generate([wanted()], lambda row, fraction: None, lambda row: False)

    assert isinstance(outcome, GenerationError)
    assert "too little memory for 1 seconds of small-sfx" in outcome.message


def test_a_row_whose_audio_is_not_a_number_is_flawed_alone(load: Load) -> None:
    engine = load("small-sfx")
    broken, sound = wanted(cfg_scale=float(np.float32(1e38))), wanted(cfg_scale=2.0)

    flaws = [flaw_of(samples) for samples in clips(engine, broken, sound)]

    assert flaws == [NOT_NUMBERS, None]


def test_peaks_are_limited_unless_a_request_wants_them_cut_off(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load("small-sfx")
    (within,), (unlimited,) = clips(engine, wanted()), clips(engine, wanted(normalize="none"))

    assert np.abs(within).max() < PEAK_CEILING
    np.testing.assert_array_equal(within, unlimited)

    patches = engine._decoder._autoencoder.pretransform
    decode = patches.decode
    monkeypatch.setattr(patches, "decode", lambda x: 20 * decode(x))  # tiny models are quiet
    limited, cut = clips(engine, wanted(), wanted(normalize="none"))

    assert np.abs(limited).max() <= PEAK_CEILING
    assert np.abs(cut).max() == 1.0
    kept = np.abs(cut) < 1.0
    np.testing.assert_allclose(cut[kept], 20 * within[kept], atol=20 * SAME_AUDIO)
