"""Tiny random checkpoints that the unmodified package loads: the real layout, a few MB."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.random_weights import write_checkpoint
from sa_ray.catalogue import CATALOGUE
from sa_ray.contracts import VariantName
from sa_ray.engines.port import EngineOptions
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot

PADDED_NOWHERE = {"small-sfx": 53.2 * 4096 / 44_100, "medium": 55.2 * 4096 / 44_100}
"""Durations whose latents the package leaves unpadded: elsewhere it attends to padding."""


def make_cache(cache: Path, variants: tuple[VariantName, ...]) -> None:
    """Lay out ``cache`` as the Hugging Face Hub's, each variant at the catalogue's revision."""
    for variant in variants:
        revision = CATALOGUE[variant].revision
        repo = cache / f"models--{CATALOGUE[variant].repository.replace('/', '--')}"
        make_snapshot(repo / "snapshots" / revision, variant)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(revision)


def make_snapshot(folder: Path, variant: VariantName) -> None:
    """Write a checkpoint of ``variant``; its weights depend on nothing else."""
    write_checkpoint(folder, variant, torch.device("cpu"), tiny=True)


def damaged(weights: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Checkpoints that must not load, each with what is wrong with it."""
    name = next(key for key in weights if key.endswith("to_qkv.weight"))
    yield "missing", {key: value for key, value in weights.items() if key != name}
    yield "unknown", weights | {"model.model.extra.weight": torch.ones(1)}
    yield "of another shape", weights | {name: weights[name][:-1].contiguous()}


def fresh_model(variant: VariantName, *, half: bool = False) -> tuple[Any, dict[str, Any]]:
    """Load a model of one's own from the cache of the Hub, and its config."""
    snapshot = find_snapshot(variant, EngineOptions(device="cpu"))
    return build_model(snapshot, device=torch.device("cpu"), half=half)


def without_decoder_noise(model: Any) -> None:
    model.pretransform.model.bottleneck.noise_regularize = False
    for layer in model.pretransform.model.decoder.layers:
        if hasattr(layer, "mask_noise"):
            layer.mask_noise = 0
