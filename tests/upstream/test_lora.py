"""Adapters in the weights: the package's audio, any set after any other, and none exactly."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters import asked, write_adapter
from recorders import RerunRecorder
from safetensors.torch import load_file, save_file
from stable_audio_3.model import StableAudioModel
from tiny import PADDED_NOWHERE, fresh_model, without_decoder_noise

from sa_ray.contracts import Lora, ResolvedRequest, VariantName
from sa_ray.engines.adapters import kept_as
from sa_ray.engines.stable_audio.attention import masked
from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.lora import Adapters
from sa_ray.engines.stable_audio.operations import TorchOperations
from sa_ray.errors import GenerationError
from tests.support.engine_contract import SAME_AUDIO, clips, wanted

pytestmark = pytest.mark.upstream

OTHER_AUDIO = 1e-3
WITHOUT_SECONDS = ["seconds_total"]


@pytest.fixture(scope="module")
def folder(hub_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``STABLE_AUDIO_LORA_DIR``: adapters of every kind, of all layers but where they say so."""
    found = tmp_path_factory.mktemp("loras")
    for variant, name, kind, include in (
        ("small-sfx", "plain", "lora", None),
        ("small-sfx", "rows", "dora-rows", None),
        ("small-sfx", "columns", "dora-cols", None),
        ("small-sfx", "both", "bora", None),
        ("small-sfx", "first-layer", "lora", ["layers.0.", "to_local_embed"]),
        ("medium", "plain", "lora", None),
        ("medium", "rows", "dora-rows", None),
    ):
        model, _ = fresh_model(variant)
        kept = {"include": include, "exclude": WITHOUT_SECONDS}
        write_adapter(found / variant, name, model, kind=kind, **kept)
    write_adapter(found / "small-sfx", "seconds", fresh_model("small-sfx")[0])
    return found


@pytest.fixture(scope="module")
def engine(folder: Path) -> StableAudioEngine:
    return quiet_engine(folder)


def quiet_engine(folder: Path, variant: VariantName = "small-sfx", **how: Any) -> StableAudioEngine:
    model, config = fresh_model(variant)
    without_decoder_noise(model)
    return StableAudioEngine(variant, model, config, lora_dir=folder, **how)


def packages_audio(
    variant: VariantName, request: ResolvedRequest, files: dict[Path, float]
) -> np.ndarray:
    """What the package makes with adapters beside its weights, each with its strength."""
    model, config = fresh_model(variant)
    without_decoder_noise(model)
    model.conditioner.conditioners["prompt"].model.float()
    theirs = StableAudioModel(model, config, "cpu", model_half=False)
    theirs.load_lora([str(file) for file in files])
    for index, strength in enumerate(files.values()):
        theirs.set_lora_strength(strength, lora_index=index)
    audio: torch.Tensor = theirs.generate(
        prompt=request.prompt,
        duration=request.duration,
        steps=request.steps,
        cfg_scale=request.cfg_scale,
        seed=request.seed,
        sample_size=config["sample_size"],
        disable_tqdm=True,
    )
    return audio[0].numpy()


@pytest.mark.parametrize(
    ("variant", "strengths"),
    [
        ("small-sfx", {"plain": 1.0}),
        ("small-sfx", {"plain": -0.7}),
        ("small-sfx", {"rows": 0.8}),
        ("small-sfx", {"columns": 1.0}),
        ("small-sfx", {"both": 1.2}),
        ("small-sfx", {"plain": 0.6, "first-layer": 0.5}),
        ("small-sfx", {"both": 0.5, "rows": 0.5, "first-layer": 1.5}),
        ("medium", {"plain": 1.0, "rows": 0.5}),
    ],
    ids=lambda case: case if isinstance(case, str) else " ".join(case),
)
def test_merged_adapters_sound_as_those_beside_the_package_s_weights(
    folder: Path, variant: VariantName, strengths: dict[str, float]
) -> None:
    loras = asked(folder / variant, **strengths)
    request = wanted(model=variant, duration=PADDED_NOWHERE[variant], cfg_scale=3.0, loras=loras)
    engine = quiet_engine(folder, variant)

    (found,) = clips(engine, request)
    (without,) = clips(engine, request.model_copy(update={"loras": ()}))
    files = {folder / variant / f"{lora.name}.safetensors": lora.strength for lora in loras}
    expected = packages_audio(variant, request, files)

    length = min(found.shape[-1], expected.shape[-1])
    assert np.abs(found - without).max() > OTHER_AUDIO
    np.testing.assert_allclose(found[:, :length], expected[:, :length], atol=1e-5)


def test_the_order_of_plain_adapters_does_not_matter_nor_which_layers_each_has(
    folder: Path, engine: StableAudioEngine
) -> None:
    """The package loses what a later adapter changes of layers that no earlier one has."""
    loras = asked(folder / "small-sfx", **{"first-layer": 0.5, "plain": 0.6})

    found, other = (clips(engine, wanted(loras=some))[0] for some in (loras, loras[::-1]))

    np.testing.assert_allclose(found, other, atol=1e-5)


def test_any_set_sounds_the_same_after_any_other_and_none_as_before(
    folder: Path, engine: StableAudioEngine
) -> None:
    own = folder / "small-sfx"
    sets = [
        (),
        asked(own, plain=1.0),
        asked(own, plain=0.5),
        asked(own, **{"first-layer": 1.0}),
        asked(own, plain=0.5, rows=1.0),
        asked(own, both=1.0),
    ]
    expected = [clips(quiet_engine(folder), wanted(loras=loras))[0] for loras in sets]

    for place in (1, 0, 2, 1, 3, 4, 0, 5, 3, 0):
        (found,) = clips(engine, wanted(loras=sets[place]))
        np.testing.assert_array_equal(found, expected[place])
    for one, other in pairwise(expected):
        assert np.abs(one - other).max() > OTHER_AUDIO


def weights_of(engine: StableAudioEngine) -> dict[str, tuple[int, torch.Tensor]]:
    state = engine._model.state_dict()
    return {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.items()}


def test_weights_stay_where_they_are_and_come_back_to_the_last_bit(
    folder: Path, engine: StableAudioEngine
) -> None:
    own = folder / "small-sfx"
    clips(engine, wanted())
    before = weights_of(engine)

    clips(engine, wanted(loras=asked(own, both=1.0, plain=2.0)))
    changed = weights_of(engine)
    clips(engine, wanted(loras=asked(own, **{"first-layer": -1.0})))
    clips(engine, wanted())
    after = weights_of(engine)

    for name, (address, weight) in before.items():
        assert changed[name][0] == after[name][0] == address
        assert torch.equal(after[name][1], weight)
    assert any(not torch.equal(changed[name][1], weight) for name, (_, weight) in before.items())


def test_what_was_recorded_or_folded_before_holds_with_other_weights(
    folder: Path, engine: StableAudioEngine
) -> None:
    """Silence as the local conditioning is computed once, for graphs that stay."""
    recorder = RerunRecorder()
    tools = Tools(masked, TorchOperations())
    recording = quiet_engine(folder, recorder=recorder, pad_shapes=True, tools=tools)
    own = folder / "small-sfx"
    with recording.recording():
        clips(recording, wanted())
    recorded = recorder.recorded.copy()

    for loras in (asked(own, **{"first-layer": 1.0}), asked(own, plain=1.0), ()):
        request = wanted(loras=loras)
        expected = clips(engine, request)
        np.testing.assert_allclose(clips(recording, request)[0], expected[0], atol=SAME_AUDIO)

    assert recorder.recorded == recorded


def test_prompts_are_embedded_anew_where_an_adapter_changes_that(
    hub_cache: Path, tmp_path: Path
) -> None:
    def projecting() -> tuple[Any, Any]:
        model, config = fresh_model("small-sfx")
        torch.manual_seed(3)
        projection = torch.nn.Linear(768, 768).requires_grad_(False)
        model.conditioner.conditioners["prompt"].proj_out = projection
        return model, config

    write_adapter(tmp_path / "small-sfx", "words", projecting()[0], include=["prompt"])
    loras = asked(tmp_path / "small-sfx", words=3.0)
    first, second = (
        StableAudioEngine("small-sfx", *projecting(), lora_dir=tmp_path) for _ in range(2)
    )

    (plain,) = clips(first, wanted())
    (found,) = clips(first, wanted(loras=loras))

    assert np.abs(found - plain).max() > OTHER_AUDIO
    np.testing.assert_array_equal(found, clips(second, wanted(loras=loras))[0])
    np.testing.assert_array_equal(clips(first, wanted())[0], plain)


def test_changes_of_seconds_total_are_left_out_and_logged(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "small-sfx"
    own.mkdir()
    whole = folder / "small-sfx" / "seconds.safetensors"
    (own / "seconds.safetensors").write_bytes(whole.read_bytes())
    tensors = {key: value for key, value in load_file(whole).items() if "seconds_total" not in key}
    save_file(tensors, own / "without.safetensors", {"lora_config": '{"rank": 4, "alpha": 6}'})
    engine = quiet_engine(tmp_path)

    (without,) = clips(engine, wanted(loras=asked(own, without=1.0)))
    assert "seconds_total" not in caplog.text
    (found,) = clips(engine, wanted(loras=asked(own, seconds=1.0)))

    np.testing.assert_array_equal(found, without)
    assert "The adapter seconds changes layers of conditioners.seconds_total" in caplog.text


def test_an_adapter_of_no_strength_changes_nothing(folder: Path, engine: StableAudioEngine) -> None:
    (plain,) = clips(engine, wanted())
    (found,) = clips(engine, wanted(loras=asked(folder / "small-sfx", rows=0.0, plain=0.0)))

    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("half", [False, True])
def test_a_change_that_failed_midway_is_made_good_by_the_next(folder: Path, half: bool) -> None:
    model, _ = fresh_model("small-sfx", half=half)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told: list[set[str]] = []

    def fails_once(layers: Any) -> None:
        told.append(set(layers))
        if len(told) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    own = folder / "small-sfx"
    adapters = Adapters("small-sfx", model, own, fails_once)
    loras = asked(own, plain=1.0)
    adapters.read(loras)

    with pytest.raises(torch.OutOfMemoryError):
        adapters.use(loras)
    assert adapters.merged == ()
    adapters.use(())

    assert told[0] == told[1]
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in before.items())


def with_value(value: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def changed(tensors: dict[str, Any]) -> dict[str, Any]:
        name = next(
            key for key in tensors if key.endswith("to_qkv.parametrizations.weight.0.lora_B")
        )
        return tensors | {name: torch.full_like(tensors[name], value)}

    return changed


def renamed(tensors: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("layers.1.", "layers.7."): value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_value(float("nan")), "has values that are not numbers"),
        (with_value(float("inf")), "has values that are not numbers"),
        (renamed, r"small-sfx does not have all of its layers \(model.transformer.layers.7."),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], reason: str
) -> None:
    own = tmp_path / "small-sfx"
    own.mkdir()
    tensors = change(load_file(folder / "small-sfx" / "plain.safetensors"))
    save_file(tensors, own / "broken.safetensors", {"lora_config": '{"rank": 4, "alpha": 6}'})

    refused(quiet_engine(tmp_path), asked(own, broken=1.0), f"The adapter broken .*{reason}")


def test_an_adapter_whose_tensors_overlap_is_refused(folder: Path, tmp_path: Path) -> None:
    data = (folder / "small-sfx" / "plain.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    one, other, *_ = (
        key for key in header if key.endswith("to_out.parametrizations.weight.0.lora_A")
    )
    header[one]["data_offsets"] = header[other]["data_offsets"]
    text = json.dumps(header).encode()
    own = tmp_path / "small-sfx"
    own.mkdir()
    broken = len(text).to_bytes(8, "little") + text + data[end:]
    (own / "broken.safetensors").write_bytes(broken)

    refused(quiet_engine(tmp_path), asked(own, broken=1.0), "broken .* its file is damaged")


def refused(engine: StableAudioEngine, loras: tuple[Lora, ...], message: str) -> None:
    """Have ``engine`` refuse ``loras`` for every row, and go on with the next batch."""
    batch = [wanted(loras=loras), wanted(loras=loras, seed=8)]
    outcomes = engine.generate(batch, lambda row, fraction: None, lambda row: False)

    for outcome in outcomes:
        assert isinstance(outcome, GenerationError)
        with pytest.raises(GenerationError, match=message):
            raise outcome
        assert outcome.param == "loras"
    clips(engine, wanted())


def test_an_adapter_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    wide = tmp_path / "small-sfx"
    wide.mkdir()
    (wide / "plain.safetensors").write_bytes((folder / "medium" / "plain.safetensors").read_bytes())

    refused(
        quiet_engine(tmp_path),
        asked(wide, plain=1.0),
        "layers of small-sfx have other sizes .*: it was trained on another model",
    )


@pytest.mark.parametrize("name", ["absent", "../small-sfx/plain", "../medium/plain", "/etc/passwd"])
def test_a_name_that_is_not_there_is_refused(
    folder: Path, engine: StableAudioEngine, name: str
) -> None:
    loras = (Lora(name=name, strength=1.0, sha256="0" * 64),)
    refused(
        engine,
        loras,
        f"The adapter {name} cannot be used: the node that serves small-sfx has none of that",
    )


def test_without_a_folder_there_are_no_adapters(folder: Path) -> None:
    model, config = fresh_model("small-sfx")
    engine = StableAudioEngine("small-sfx", model, config)
    refused(engine, asked(folder / "small-sfx", plain=1.0), "small-sfx has none of that name")


def test_a_file_that_was_replaced_since_is_refused(folder: Path) -> None:
    (plain,) = asked(folder / "small-sfx", plain=1.0)
    replaced = plain.model_copy(update={"name": "rows"})

    refused(quiet_engine(folder), (replaced,), "its file was replaced after the request")


def test_a_kept_copy_stands_for_a_file_that_was_replaced_since(
    folder: Path, tmp_path: Path, engine: StableAudioEngine
) -> None:
    (plain,) = asked(folder / "small-sfx", plain=1.0)
    copy = tmp_path / "small-sfx" / kept_as(plain.name, plain.sha256)
    copy.parent.mkdir(parents=True)
    copy.write_bytes((folder / "small-sfx" / "plain.safetensors").read_bytes())
    (copy.parents[1] / "plain.safetensors").write_bytes(b"another by now")

    (again,) = clips(quiet_engine(tmp_path), wanted(loras=[plain]))
    (once,) = clips(engine, wanted(loras=[plain]))

    np.testing.assert_allclose(again, once, atol=SAME_AUDIO)


def test_a_file_that_does_not_fit_the_model_is_named_in_the_log(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "small-sfx"
    own.mkdir()
    for variant, name in (("small-sfx", "plain"), ("medium", "rows")):
        file = f"{name}.safetensors"
        (own / file).write_bytes((folder / variant / file).read_bytes())

    quiet_engine(tmp_path).adapters.say_which_do_not_fit()

    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("The adapter rows cannot be used: layers of small-sfx have other sizes")
