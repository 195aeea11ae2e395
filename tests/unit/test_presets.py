"""Presets: each can be asked for as it stands, and makes a sound of its own."""

from collections import Counter
from typing import get_args

import pytest

from sa_ray.contracts import GenerationRequest, Preset, VariantName
from sa_ray.engines.procedural.prompt import read
from sa_ray.presets import presets
from sa_ray.serving.ingress.resolution import resolve
from sa_ray.settings import load_settings

PRESETS = pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)


@PRESETS
def test_a_preset_can_be_asked_for_as_it_stands(preset: Preset) -> None:
    settings = load_settings({})

    for model in preset.models:
        request = GenerationRequest(
            model=model, prompt=preset.prompt, duration=preset.duration, seed=1
        )
        resolved = resolve(request, settings.models, settings.limits, "procedural")
        assert (resolved.prompt, resolved.model) == (preset.prompt, model)


@PRESETS
def test_the_procedural_engine_understands_a_preset(preset: Preset) -> None:
    assert read(preset.prompt).sounds


def test_there_are_some_dozens_for_each_model_and_no_name_twice() -> None:
    names = Counter(preset.name for preset in presets())
    assert set(names.values()) == {1}
    assert len({preset.prompt for preset in presets()}) == len(names)
    for model in get_args(VariantName):
        assert sum(model in preset.models for preset in presets()) >= 36
