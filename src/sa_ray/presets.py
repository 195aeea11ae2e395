"""Presets: prompts that a user can begin with, by what the variants are made for."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, get_args

import yaml

from sa_ray.contracts import Preset, PresetKind, VariantName

MODELS: Final[Mapping[PresetKind, tuple[VariantName, ...]]] = MappingProxyType(
    {
        "sfx": ("small-sfx", "medium"),
        "music": ("small-music", "medium"),
        "stems": ("small-music", "medium"),
    }
)
"""What each variant makes, by the table "Model Compatibility" of the model's prompting guide; the
one that is made for it first."""


@cache
def presets() -> tuple[Preset, ...]:
    """Return all presets, by kind."""
    found = yaml.safe_load(files("sa_ray").joinpath("presets.yaml").read_text("utf-8"))
    return tuple(
        Preset(kind=kind, models=list(MODELS[kind]), **preset)
        for kind in get_args(PresetKind)
        for preset in found[kind]
    )
