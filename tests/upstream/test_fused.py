"""Blocks in few kernels compute what the package's do; the kernels, what torch does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sa_ray.contracts import VariantName
from sa_ray.engines.port import EngineOptions
from sa_ray.engines.stable_audio.attention import Keys, masked, plain
from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.operations import TorchOperations
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot
from tests.support.engine_contract import SAME_AUDIO, clips, wanted

pytestmark = pytest.mark.upstream


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_fused_blocks_make_the_audio_of_the_package_s(
    load: Callable[[VariantName], StableAudioEngine],
    hub_cache: Path,
    variant: VariantName,
    scale: float,
) -> None:
    options = EngineOptions(device="cpu")
    model, config = build_model(
        find_snapshot(variant, options), device=torch.device("cpu"), half=False
    )
    tools = Tools(masked, TorchOperations())
    fused = StableAudioEngine(variant, model, config, pad_shapes=True, tools=tools)
    batch = [
        wanted(model=variant, seed=seed, duration=1.0 + 6 * seed, cfg_scale=scale)
        for seed in range(3)
    ]

    for samples, one in zip(clips(fused, *batch), batch, strict=True):
        np.testing.assert_allclose(samples, clips(load(variant), one)[0], atol=SAME_AUDIO)


@pytest.mark.parametrize("tokens", [1, 34, 127, 128, 129, 300])
@pytest.mark.parametrize("window", [1, 17, 40])
def test_blockwise_attention_keeps_to_its_window(tokens: int, window: int) -> None:
    torch.manual_seed(tokens)
    q, k, v = torch.randn(2, tokens, 3, 4, 32).unbind(2)

    torch.testing.assert_close(
        masked(q, k, v, window=window), plain(q, k, v, window=window), atol=1e-5, rtol=1e-5
    )


def test_keys_beyond_those_used_do_not_count() -> None:
    q, k, v = torch.randn(2, 50, 3, 4, 32).unbind(2)
    keys = Keys.of(torch.tensor([50, 20]), 50)
    other_k, other_v = k.clone(), v.clone()
    other_k[1, 20:], other_v[1, 20:] = 7.0, -3.0

    for attend in (masked, plain):
        torch.testing.assert_close(
            attend(q, k, v, keys=keys), attend(q, other_k, other_v, keys=keys)
        )


INTERPRETED = """
import torch
from sa_ray.engines.stable_audio.operations import Modulation, Norm, TorchOperations
from sa_ray.engines.stable_audio.triton_operations import TritonOperations

torch.manual_seed(0)
ours, torchs = TritonOperations(), TorchOperations()

def same(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

for width, heads in ((128, 2), (192, 3)):
    x, branch = torch.randn(2, 2, 5, width)
    values = torch.randn(2, 6 * width)
    local, own = torch.randn(width), torch.randn(2, 3, width)
    one = torch.randn(width // heads), torch.randn(width // heads), torch.randn(1)
    two = torch.randn(width // heads), torch.randn(width // heads), torch.randn(1)
    for kind in ("rms", "tanh"):
        norm = Norm(kind, torch.randn(width), torch.randn(width), torch.randn(1), 1e-5)
        added, modulated = Modulation(values, gate=5), Modulation(values, 3, 4)
        for options in ({}, {"added": added}, {"normalized": modulated},
                        {"added": added, "normalized": modulated, "local": local, "memory": 2},
                        {"local": own, "memory": 2}):
            for found, expected in zip(ours.add_normalize(x, branch, norm, **options),
                                       torchs.add_normalize(x, branch, norm, **options)):
                same(found, expected)
        same(ours.normalize(x, norm, modulated), torchs.normalize(x, norm, modulated))
        query, key = Norm(kind, *one, 1e-5), Norm(kind, *two, 1e-5)
        angles = torch.rand(5, 16), torch.rand(5, 16)
        for slots in (3, 5):
            parts = torch.randn(2, 5, slots, heads, width // heads)
            same(ours.rotate(parts.clone(), query, key, angles),
                 torchs.rotate(parts.clone(), query, key, angles))
            same(ours.normalize_heads(parts.clone(), key, slots - 1),
                 torchs.normalize_heads(parts.clone(), key, slots - 1))
    same(ours.add(x, branch, added, None, 0), torchs.add(x, branch, added, None, 0))
    same(ours.gated(x), torchs.gated(x))
print("the same")
"""


def test_triton_kernels_interpreted_on_the_cpu_compute_what_torch_does() -> None:
    # A process of its own: Triton reads the variable when the kernels are defined.
    pytest.importorskip("triton")
    ran = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={"TRITON_INTERPRET": "1", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout == "the same\n", ran.stderr
