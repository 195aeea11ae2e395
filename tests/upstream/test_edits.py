"""Edits against the package itself, and what they promise beyond it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorders import RerunRecorder
from tiny import PADDED_NOWHERE, fresh_model, without_decoder_noise

from sa_ray.contracts import PEAK_CEILING, Region, ResolvedRequest, VariantName
from sa_ray.engines.port import Cancelled, Generated
from sa_ray.engines.stable_audio.attention import masked
from sa_ray.engines.stable_audio.bfloat16 import multiply_in_bfloat16
from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.operations import TorchOperations
from tests.support.engine_contract import SAME_AUDIO, clips, wanted

pytestmark = pytest.mark.upstream

LATENT = 4096 / 44_100
"""Seconds of a latent."""


def chord(duration: float, pitch: float = 220.0) -> np.ndarray:
    """A source of ``duration`` seconds, its channels unlike each other."""
    time = np.arange(round(duration * 44_100)) / 44_100
    left = 0.3 * np.sin(2 * np.pi * pitch * time) * np.exp(-time % 0.7)
    right = 0.2 * np.sin(2 * np.pi * 1.5 * pitch * time) + 0.05 * np.sign(left)
    return np.stack([left, right]).astype(np.float32)


def edited(
    engine: StableAudioEngine,
    batch: Sequence[ResolvedRequest],
    sources: Sequence[np.ndarray | None],
) -> list[np.ndarray]:
    outcomes = engine.generate(batch, lambda row, fraction: None, lambda row: False, sources)
    samples = []
    for outcome in outcomes:
        assert isinstance(outcome, Generated), outcome
        samples.append(outcome.samples)
    return samples


def at(*latents: tuple[float, float]) -> tuple[Region, ...]:
    """Regions that begin where latents do, as the package rounds them inward."""
    return tuple(
        Region(start=(first + 1e-5) * LATENT, end=last * LATENT) for first, last in latents
    )


LONG = 253.2 * LATENT
"""Padded nowhere either, and encoded in several chunks by the package and here."""


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize(
    "choices",
    [
        {"init_noise_level": 0.7},
        {"init_noise_level": 0.05, "sampler": "euler"},
        {"init_noise_level": 0.4, "sampler": "dpmpp", "cfg_scale": 3.0},
        {"init_noise_level": 0.0},
        {"init_noise_level": 0.3, "duration": LONG, "steps": 1},
        {"regions": at((10, 30.5))},
        {"regions": at((0, 3), (20, 21), (40, 53.2)), "sampler": "euler"},
        {"regions": at((0, 15.3), (20, 50)), "cfg_scale": 4.0, "negative_prompt": "hiss"},
        {"regions": at((100, 140.9)), "duration": LONG, "steps": 2},
    ],
    ids=[
        "init",
        "init euler",
        "init dpmpp guided",
        "init untouched",
        "init long",
        "inpaint",
        "inpaint thrice",
        "inpaint twice guided",
        "inpaint long",
    ],
)
def test_an_edit_alone_sounds_as_the_package_makes_it(
    package: Callable[[VariantName], Any],
    hub_cache: Path,
    variant: VariantName,
    choices: dict[str, Any],
) -> None:
    duration = choices.get("duration", PADDED_NOWHERE[variant])
    theirs = package(variant)
    without_decoder_noise(theirs.model)
    model, config = fresh_model(variant)
    without_decoder_noise(model)
    engine = StableAudioEngine(variant, model, config)
    request = wanted(**{"model": variant, "duration": duration, "seed": 99, **choices})
    source = chord(duration)

    (found,) = edited(engine, [request], [source])
    names = {"sampler": "sampler_type"}
    arguments = {"duration": duration, "steps": request.steps}
    arguments |= {names.get(name, name): value for name, value in choices.items()}
    audio = 44_100, torch.tensor(source)
    if regions := arguments.pop("regions", ()):
        arguments["inpaint_audio"] = audio
        arguments["inpaint_mask_start_seconds"] = [region.start for region in regions]
        arguments["inpaint_mask_end_seconds"] = [region.end for region in regions]
    else:
        arguments["init_audio"] = audio
    expected = theirs.generate(
        prompt=request.prompt,
        seed=request.seed,
        sample_size=config["sample_size"],
        disable_tqdm=True,
        **arguments,
    )[0].numpy()

    assert expected.std() > 0.01
    length = min(found.shape[-1], expected.shape[-1])
    np.testing.assert_allclose(found[:, :length], expected[:, :length], atol=1e-5)


Load = Callable[[VariantName], StableAudioEngine]


def test_at_full_noise_nothing_of_the_source_is_left(load: Load) -> None:
    request = wanted(duration=3.0, init_noise_level=1.0)

    (found,) = edited(load("small-sfx"), [request], [chord(3.0)])

    np.testing.assert_array_equal(found, clips(load("small-sfx"), request)[0])


@pytest.mark.parametrize("sampler", ["pingpong", "euler", "dpmpp"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_without_noise_the_source_comes_back_as_the_model_codes_it(
    package: Callable[[VariantName], Any], sampler: str, scale: float
) -> None:
    theirs = package("small-sfx").model
    model, config = fresh_model("small-sfx")
    for one in (theirs, model):
        without_decoder_noise(one)
    request = wanted(duration=3.0, init_noise_level=0.0, sampler=sampler, cfg_scale=scale)
    source = chord(3.0)

    (found,) = edited(StableAudioEngine("small-sfx", model, config), [request], [source])

    padded = np.pad(source, ((0, 0), (0, 98 * 4096 - source.shape[1])))
    with torch.inference_mode():
        latents = theirs.pretransform.encode(torch.tensor(padded)[None])
        coded = theirs.pretransform.decode(latents)[0].numpy()
    np.testing.assert_allclose(found, coded[:, : found.shape[1]], atol=1e-5)


def test_a_region_is_covered_whole_by_latents_made_anew(load: Load) -> None:
    """The package rounds its start inward: this region would be none."""
    engine, source = load("small-sfx"), chord(3.0)
    within = Region(start=10.2 * LATENT, end=10.8 * LATENT)
    whole = Region(start=10.0 * LATENT, end=11.0 * LATENT)
    batch = [wanted(duration=3.0, regions=(region,)) for region in (within, whole)]
    beside = wanted(duration=3.0, regions=(Region(start=11.0 * LATENT, end=12.0 * LATENT),))

    found, expected, other = edited(engine, [*batch, beside], [source] * 3)

    np.testing.assert_allclose(found, expected, atol=SAME_AUDIO)
    assert np.abs(found - other).max() > 100 * SAME_AUDIO


def test_peaks_beside_what_is_kept_are_limited_and_not_cut_off(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load("small-sfx")
    patches = engine._decoder._autoencoder.pretransform
    decode = patches.decode
    monkeypatch.setattr(patches, "decode", lambda x: 20 * decode(x))  # tiny models are quiet
    request = wanted(duration=3.0, regions=(Region(start=1.0, end=2.0),), normalize="none")

    (found,) = edited(engine, [request], [chord(3.0)])

    assert 0.9 * PEAK_CEILING < np.abs(found).max() <= PEAK_CEILING


def test_what_is_outside_the_regions_is_heard_and_what_is_far_inside_is_not(load: Load) -> None:
    engine, source = load("medium"), chord(12.0)
    request = wanted(model="medium", duration=12.0, regions=(Region(start=3.0, end=9.0),))
    other_inside, other_outside = source.copy(), source.copy()
    # Encoding a latent hears 14 others around it, 1.3 seconds on either side.
    other_inside[:, 5 * 44_100 : 7 * 44_100] = 0
    other_outside[:, 10 * 44_100 :] = 0

    (found,), (inside,), (outside,) = (
        edited(engine, [request], [one]) for one in (source, other_inside, other_outside)
    )

    np.testing.assert_allclose(found, inside, atol=SAME_AUDIO)
    assert np.abs(found - outside).max() > 100 * SAME_AUDIO


MIXED: list[tuple[dict[str, Any], float | None]] = [
    ({"duration": 2.0}, None),
    ({"duration": 4.5, "init_noise_level": 0.3, "seed": 1}, 220.0),
    ({"duration": 3.0, "regions": (Region(start=1.0, end=2.0),), "seed": 2}, 330.0),
    ({"duration": 5.0, "regions": (Region(start=0.0, end=0.5), Region(start=3.0, end=5.0))}, 110.0),
    ({"duration": 1.0, "init_noise_level": 0.0, "seed": 3}, 440.0),
    ({"duration": 8.0, "init_noise_level": 0.8, "seed": 4}, 550.0),
]
"""Changes to a request, and the pitch of its source."""

Batch = tuple[list[ResolvedRequest], list[np.ndarray | None]]


def mixed(**changes: Any) -> Batch:
    requests = [wanted(**{**changes, **fields}) for fields, _ in MIXED]
    return requests, [
        None if pitch is None else chord(request.duration, pitch)
        for request, (_, pitch) in zip(requests, MIXED, strict=True)
    ]


def alone(engine: StableAudioEngine, batch: Batch) -> list[np.ndarray]:
    return [edited(engine, [one], [source])[0] for one, source in zip(*batch, strict=True)]


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"cfg_scale": 3.0, "negative_prompt": "hiss"}, {"sampler": "dpmpp"}],
    ids=["plain", "guided", "dpmpp"],
)
def test_rows_with_and_without_edits_know_nothing_of_their_mates(
    load: Load, variant: VariantName, changes: dict[str, Any]
) -> None:
    batch = mixed(model=variant, **changes)

    for samples, expected in zip(
        edited(load(variant), *batch), alone(load(variant), batch), strict=True
    ):
        np.testing.assert_allclose(samples, expected, atol=SAME_AUDIO)


@pytest.mark.parametrize(
    ("variant", "fused"),
    [("small-sfx", False), ("small-sfx", True), ("medium", True)],
    ids=["small", "small fused", "medium fused"],
)
def test_padded_fused_and_replayed_an_edit_sounds_the_same(
    load: Load, hub_cache: Path, variant: VariantName, fused: bool
) -> None:
    recorder = RerunRecorder()
    tools = Tools(masked, TorchOperations() if fused else None)
    engine = StableAudioEngine(
        variant, *fresh_model(variant), pad_shapes=True, tools=tools, recorder=recorder
    )
    batches = [mixed(model=variant, steps=2), mixed(model=variant, steps=2, cfg_scale=3.0)]
    text = [wanted(model=variant, duration=8.0, seed=seed) for seed in range(3)]
    expected = [alone(load(variant), batch) for batch in batches]
    of_text = [clips(load(variant), one)[0] for one in text]

    with engine.recording():
        for _ in range(2):
            for batch, sound in zip(batches, expected, strict=True):
                for samples, one in zip(edited(engine, *batch), sound, strict=True):
                    np.testing.assert_allclose(samples, one, atol=SAME_AUDIO)
            for samples, one in zip(clips(engine, *text), of_text, strict=True):
                np.testing.assert_allclose(samples, one, atol=SAME_AUDIO)


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_in_less_precision_an_edit_sounds_nearly_the_same(
    load: Load, hub_cache: Path, variant: VariantName, kind: str
) -> None:
    model, config = fresh_model(variant, half=kind == "half")
    if kind == "bfloat16":
        multiply_in_bfloat16(model, smallest_weight=0)
    engine = StableAudioEngine(variant, model, config, pad_shapes=True)
    batch = mixed(model=variant)

    for samples, exact in zip(edited(engine, *batch), alone(load(variant), batch), strict=True):
        np.testing.assert_allclose(samples, exact, atol=1e-2)


def test_a_first_edit_costs_text_none_of_its_graphs(hub_cache: Path) -> None:
    recorder = RerunRecorder()
    engine = StableAudioEngine(
        "small-sfx", *fresh_model("small-sfx"), pad_shapes=True, recorder=recorder
    )
    request = wanted(duration=3.0)
    edit = wanted(duration=3.0, regions=(Region(start=1.0, end=2.0),))
    with engine.recording():
        clips(engine, request, request)
        for rows in (1, 2):
            edited(engine, [edit] * rows, [chord(3.0)] * rows)
        recorded = recorder.recorded.total()

        clips(engine, request, request)
        edited(engine, [wanted(duration=3.0, init_noise_level=0.5)] * 2, [chord(3.0)] * 2)

    assert recorder.recorded.total() == recorded


def test_a_row_cancelled_midway_leaves_the_edits_beside_it_as_they_were(load: Load) -> None:
    engine, (requests, sources) = load("small-sfx"), mixed(cfg_scale=2.0)
    expected = alone(engine, (requests, sources))
    steps: list[int] = []

    outcomes = engine.generate(
        requests,
        lambda row, fraction: steps.append(row),
        lambda row: row in (0, 2) and len(steps) >= 7,
        sources,
    )

    assert [type(outcomes[row]) for row in (0, 2)] == [Cancelled] * 2
    for row in (1, 3, 4, 5):
        outcome = outcomes[row]
        assert isinstance(outcome, Generated)
        np.testing.assert_allclose(outcome.samples, expected[row], atol=SAME_AUDIO)


def test_edits_too_large_for_memory_are_halved_until_they_fit(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, batch = load("small-sfx"), mixed()
    expected = alone(engine, batch)
    encoder = engine._edits._encoder
    encode, attempts = encoder._encode, []

    def limited(audio: list[Any], *rest: Any) -> Any:
        if len(audio) > 2:
            attempts.append(len(audio))
            raise torch.cuda.OutOfMemoryError
        return encode(audio, *rest)

    monkeypatch.setattr(encoder, "_encode", limited)

    for samples, one in zip(edited(engine, *batch), expected, strict=True):
        np.testing.assert_allclose(samples, one, atol=SAME_AUDIO)
    assert attempts == [5, 3]


@pytest.mark.parametrize(
    ("changes", "sources", "fault"),
    [
        ({}, [chord(0.9)], "is not"),
        ({}, [chord(1.0)[:1]], "is not"),
        ({"regions": (Region(start=0.2, end=0.4),)}, [None], "regions"),
        ({"regions": (Region(start=0.2, end=0.4),)}, [], "regions"),
    ],
    ids=["short", "mono", "without a source", "without any sources"],
)
def test_sources_that_are_not_as_the_port_wants_them_are_errors(
    load: Load, changes: dict[str, Any], sources: list[Any], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        edited(load("small-sfx"), [wanted(**changes)], sources)
