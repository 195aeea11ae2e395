"""Against the package itself: the same latents and audio, and its faults kept out."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_audio_3.model import StableAudioModel
from tiny import PADDED_NOWHERE, damaged, fresh_model, without_decoder_noise

from sa_ray.catalogue import CATALOGUE
from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines.loading import load_stable_audio
from sa_ray.engines.port import EngineOptions, Generated
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.weights import find_snapshot
from sa_ray.errors import ConfigurationError, UnavailableError
from tests.support.engine_contract import SAME_AUDIO, clips, wanted

pytestmark = pytest.mark.upstream

ON_CPU = EngineOptions(device="cpu")


def snapshot(cache: Path, variant: VariantName) -> Path:
    return find_snapshot(variant, ON_CPU)


@pytest.fixture
def copied(hub_cache: Path, tmp_path: Path) -> Path:
    """A ``STABLE_AUDIO_WEIGHTS_DIR`` with small-sfx, to be damaged."""
    shutil.copytree(find_snapshot("small-sfx", ON_CPU), tmp_path / "small-sfx")
    return tmp_path


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize(
    "choices",
    [
        {"steps": 8},
        {"steps": 3, "cfg_scale": 4.0},
        {"steps": 4, "cfg_scale": 4.0, "negative_prompt": "hiss"},
        {"steps": 4, "cfg_scale": 4.0, "apg_scale": 0.0},
        {"steps": 4, "cfg_scale": 4.0, "apg_scale": 0.4},
        {"steps": 5, "sampler": "pingpong"},
        {"steps": 5, "sampler": "euler"},
        {"steps": 1, "sampler": "dpmpp"},
        {"steps": 5, "sampler": "dpmpp"},
        {"steps": 5, "sampler": "dpmpp", "cfg_scale": 3.0, "negative_prompt": "hiss"},
    ],
    ids=lambda choices: " ".join(str(value) for value in choices.values()),
)
def test_a_request_alone_sounds_as_the_package_makes_it(
    package: Callable[[VariantName], Any],
    hub_cache: Path,
    variant: VariantName,
    choices: dict[str, Any],
) -> None:
    duration = PADDED_NOWHERE[variant]
    theirs = package(variant)
    without_decoder_noise(theirs.model)
    model, config = fresh_model(variant)
    without_decoder_noise(model)
    engine = StableAudioEngine(variant, model, config)
    request = ResolvedRequest.model_validate(
        {
            "model": variant,
            "prompt": "rain on a window",
            "duration": duration,
            "cfg_scale": 1.0,
            "seed": 99,
        }
        | choices
    )

    (outcome,) = engine.generate([request], lambda row, fraction: None, lambda row: False)
    expected = theirs.generate(
        prompt=request.prompt,
        duration=duration,
        seed=request.seed,
        sample_size=config["sample_size"],
        disable_tqdm=True,
        **{{"sampler": "sampler_type"}.get(name, name): value for name, value in choices.items()},
    )

    assert isinstance(outcome, Generated)
    found = outcome.samples[:, : expected.shape[-1]]
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected[0].numpy()[:, : found.shape[1]], atol=1e-5)


def as_base_model(model: Any) -> None:
    """Make a distilled model the base one that has the same weights: they differ in this alone."""
    model.diffusion_objective = "rectified_flow"
    model.model.diffusion_objective = model.model.model.diffusion_objective = "rectified_flow"


@pytest.mark.parametrize(
    "choices",
    [{"steps": 12, "cfg_scale": 7.0}, {"steps": 4, "cfg_scale": 7.0, "sampler": "dpmpp"}],
    ids=["default sampler", "dpmpp"],
)
def test_a_base_checkpoint_sounds_as_the_package_makes_it(
    hub_cache: Path, choices: dict[str, Any]
) -> None:
    duration = PADDED_NOWHERE["small-sfx"]
    models = [fresh_model("small-sfx") for _ in range(2)]
    for model, _ in models:
        without_decoder_noise(model)
        as_base_model(model)
    (model, config), (other, _) = models
    other.conditioner.conditioners["prompt"].model.float()
    theirs = StableAudioModel(other, config, "cpu", model_half=False)
    engine = StableAudioEngine("small-sfx", model, config)
    request = wanted(duration=duration, **choices)

    (found,) = clips(engine, request)
    expected = theirs.generate(
        prompt=request.prompt,
        duration=duration,
        seed=request.seed,
        sample_size=config["sample_size"],
        disable_tqdm=True,
        **{{"sampler": "sampler_type"}.get(name, name): value for name, value in choices.items()},
    )[0].numpy()

    length = min(found.shape[-1], expected.shape[-1])
    np.testing.assert_allclose(found[:, :length], expected[:, :length], atol=1e-5)


def test_a_base_checkpoint_takes_its_own_default_beside_a_sampler_that_was_asked_for(
    hub_cache: Path,
) -> None:
    """The batch rule lets both share a batch: it knows the default of distilled models only."""
    model, config = fresh_model("small-sfx")
    as_base_model(model)
    engine = StableAudioEngine("small-sfx", model, config)
    named = [wanted(sampler=name) for name in ("pingpong", "euler")]

    together = clips(engine, wanted(), named[0], wanted(seed=8))

    expected = [clips(engine, one)[0] for one in (named[1], named[0])]
    for samples, alone in zip(together, expected, strict=False):
        np.testing.assert_allclose(samples, alone, atol=SAME_AUDIO)


def test_an_objective_that_nobody_knows_is_a_configuration_error(hub_cache: Path) -> None:
    model, config = fresh_model("small-sfx")
    model.diffusion_objective = "v"
    with pytest.raises(ConfigurationError, match="objective v: known are rf_denoiser and"):
        StableAudioEngine("small-sfx", model, config)


def test_weights_load_from_a_local_folder(copied: Path) -> None:
    engine = load_stable_audio("small-sfx", EngineOptions(device="cpu", weights_dir=copied))
    assert engine.name == "stable-audio-3"


def test_a_folder_without_the_variant_is_named(copied: Path) -> None:
    options = EngineOptions(device="cpu", weights_dir=copied)
    with pytest.raises(ConfigurationError, match="no folder medium"):
        load_stable_audio("medium", options)


@pytest.mark.parametrize("what", ["missing", "unknown", "of another shape"])
def test_a_checkpoint_with_wrong_keys_does_not_load(copied: Path, what: str) -> None:
    file = copied / "small-sfx" / "model.safetensors"
    save_file(dict(damaged(load_file(file)))[what], file)

    with pytest.raises(ConfigurationError, match=f"Keys: 1 {what}"):
        load_stable_audio("small-sfx", EngineOptions(device="cpu", weights_dir=copied))


@pytest.mark.parametrize("name", ["model.safetensors", "model_config.json"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / "small-sfx" / name).unlink()
    with pytest.raises(ConfigurationError, match=name):
        load_stable_audio("small-sfx", EngineOptions(device="cpu", weights_dir=copied))


def test_a_truncated_checkpoint_is_named(copied: Path) -> None:
    file = copied / "small-sfx" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])

    with pytest.raises(ConfigurationError, match="damaged or incomplete"):
        load_stable_audio("small-sfx", EngineOptions(device="cpu", weights_dir=copied))


@pytest.mark.parametrize(
    ("value", "fault"), [(float("nan"), "not numbers"), (0.0, "silent")], ids=["nan", "silent"]
)
def test_weights_that_make_no_sound_fail_the_self_test(
    copied: Path, value: float, fault: str
) -> None:
    file = copied / "small-sfx" / "model.safetensors"
    weights = load_file(file)
    for name in weights:
        if name.startswith("pretransform.model.decoder.layers.3.mapping"):
            weights[name] = torch.full_like(weights[name], value)
            if name.endswith("weight_v") and value == 0.0:
                weights[name] = torch.ones_like(weights[name])
    save_file(weights, file)

    with pytest.raises(UnavailableError, match=fault):
        load_stable_audio("small-sfx", EngineOptions(device="cpu", weights_dir=copied))


def test_broken_masked_attention_is_replaced(
    hub_cache: Path,
    load: Callable[[VariantName], StableAudioEngine],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = [wanted(duration=duration) for duration in (1.0, 4.0)]
    expected = clips(load("small-sfx"), *batch)
    attention = torch.nn.functional.scaled_dot_product_attention

    def deaf_to_masks(q: Any, k: Any, v: Any, **options: Any) -> Any:
        # The text encoder, with narrower heads, keeps its own.
        return attention(q, k, v) if q.shape[-1] == 64 else attention(q, k, v, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", deaf_to_masks)

    engine = load_stable_audio("small-sfx", EngineOptions(device="cpu", half=False))

    assert "masked attention is not used on cpu: it is off by" in caplog.text
    for samples, sound in zip(clips(engine, *batch), expected, strict=True):
        np.testing.assert_allclose(samples, sound, atol=SAME_AUDIO)


def test_a_device_that_is_not_there_is_a_configuration_error(hub_cache: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigurationError, match="STABLE_AUDIO_DEVICE=cuda"):
        load_stable_audio("small-sfx", EngineOptions(device="cuda"))


def test_weights_out_of_reach_say_what_to_do(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(UnavailableError, match="STABLE_AUDIO_WEIGHTS_DIR"):
        load_stable_audio("small-sfx", ON_CPU)


def test_other_weights_are_those_that_the_operator_names(hub_cache: Path) -> None:
    pinned = find_snapshot("small-sfx", ON_CPU)
    revision = "f" * 40
    renamed = hub_cache / "models--me--mine" / "snapshots" / revision
    shutil.copytree(pinned, renamed)
    options = EngineOptions(device="cpu", repository="me/mine", revision=revision)
    try:
        assert find_snapshot("small-sfx", options) == renamed
    finally:
        shutil.rmtree(renamed.parents[1])


def test_the_cached_revision_is_the_pinned_one(hub_cache: Path) -> None:
    folder = find_snapshot("medium", ON_CPU)

    assert folder.name == CATALOGUE["medium"].revision
    assert CATALOGUE["medium"].repository.replace("/", "--") in str(folder)
