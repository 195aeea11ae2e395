"""What only a GPU shows: CUDA graphs, fp16 and its rounding, the bound on memory."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines.port import EngineOptions, Generated
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.loading import load

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

HALF_PRECISION = 2e-2
"""Largest difference of samples between fp16 and fp32, or between two batch sizes in fp16."""


def wanted(variant: VariantName, seed: int, **changes: object) -> ResolvedRequest:
    fields: dict[str, object] = {
        "model": variant,
        "prompt": f"rain on window {seed}",
        "duration": 1.0 + seed,
        "steps": 4,
        "cfg_scale": 1.0,
        "seed": seed,
    }
    return ResolvedRequest.model_validate(fields | changes)


def clips(engine: StableAudioEngine, *batch: ResolvedRequest) -> list[np.ndarray]:
    outcomes = engine.generate(batch, lambda row, fraction: None, lambda row: False)
    assert all(isinstance(outcome, Generated) for outcome in outcomes), outcomes
    return [outcome.samples for outcome in outcomes if isinstance(outcome, Generated)]


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_audio_is_that_of_the_cpu_and_every_shape_becomes_a_graph(
    hub_cache: Path,
    load: Callable[[VariantName], StableAudioEngine],
    caplog: pytest.LogCaptureFixture,
    variant: VariantName,
    scale: float,
) -> None:
    batch = [wanted(variant, seed, cfg_scale=scale) for seed in range(3)]
    expected = clips(load(variant), *batch)

    with caplog.at_level(logging.WARNING):
        engine = on_cuda(variant)
        first, again = clips(engine, *batch), clips(engine, *batch)

    assert not [record for record in caplog.records if "no CUDA graph" in record.message]
    for row, clip in enumerate(expected):
        np.testing.assert_array_equal(first[row], again[row])
        np.testing.assert_allclose(first[row], clip, atol=HALF_PRECISION)
        np.testing.assert_allclose(clips(engine, batch[row])[0], first[row], atol=HALF_PRECISION)


def on_cuda(variant: VariantName) -> StableAudioEngine:
    return load(variant, EngineOptions(device="cuda", gpu_fraction=0.5, max_batch_rows=4))
