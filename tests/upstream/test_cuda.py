"""What only a GPU shows: CUDA graphs, fp16 and its rounding, the bound on memory."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from sa_ray.contracts import Region, ResolvedRequest, VariantName
from sa_ray.engines.port import EngineOptions, Generated
from sa_ray.engines.stable_audio import loading
from sa_ray.engines.stable_audio.attention import Keys, flash, masked, plain
from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.capture import CudaRecorder
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.graphs import Graphs
from sa_ray.engines.stable_audio.kernels import choose_operations
from sa_ray.engines.stable_audio.loading import load
from sa_ray.engines.stable_audio.operations import Operations, TorchOperations
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot
from sa_ray.errors import GenerationError

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

if torch.cuda.is_available():
    from sa_ray.engines.stable_audio.triton_operations import TritonOperations

CUDA = torch.device("cuda", 0)

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


def tone(pitch: float, duration: float) -> np.ndarray:
    time = np.arange(round(duration * 44_100)) / 44_100
    return np.tile(0.3 * np.sin(2 * np.pi * pitch * time), (2, 1)).astype(np.float32)


def clips(
    engine: StableAudioEngine,
    *batch: ResolvedRequest,
    sources: Sequence[np.ndarray | None] = (),
) -> list[np.ndarray]:
    outcomes = engine.generate(batch, lambda row, fraction: None, lambda row: False, sources)
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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "HF_HOME", str(tmp_path))
    batch = [wanted(variant, seed, cfg_scale=scale) for seed in range(3)]
    expected = clips(load(variant), *batch)

    with caplog.at_level(logging.WARNING):
        engine = on_cuda(variant)
        clips(engine, *batch)
        first, again = clips(engine, *batch), clips(engine, *batch)

    assert not caplog.records, caplog.text
    assert engine.slowdown is None
    assert engine.calibration is not None
    assert engine.graph_counts.replayed > engine.graph_counts.runs / 2
    kept = {path: path.stat().st_mtime_ns for path in Path(tmp_path, "sa-ray").iterdir()}
    assert on_cuda(variant).calibration == engine.calibration
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for row, clip in enumerate(expected):
        np.testing.assert_array_equal(first[row], again[row])
        np.testing.assert_allclose(first[row], clip, atol=HALF_PRECISION)
        np.testing.assert_allclose(clips(engine, batch[row])[0], first[row], atol=HALF_PRECISION)


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
def test_fused_blocks_do_as_the_package_does(hub_cache: Path, variant: VariantName) -> None:
    batch = [wanted(variant, seed, cfg_scale=2.0) for seed in range(3)]

    fused = clips(built(variant, choose_operations(CUDA)), *batch)
    eager = clips(built(variant, TorchOperations()), *batch)
    package = clips(built(variant, None), *batch)

    assert isinstance(choose_operations(CUDA), TritonOperations)
    for one, other, theirs in zip(fused, eager, package, strict=True):
        np.testing.assert_allclose(one, other, atol=HALF_PRECISION)
        np.testing.assert_allclose(one, theirs, atol=HALF_PRECISION)


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize(
    "edit", [{"regions": (Region(start=0.2, end=0.9),)}, {"init_noise_level": 0.4}]
)
def test_edits_are_those_of_the_cpu_as_they_are_recorded_and_replayed(
    hub_cache: Path,
    load: Callable[[VariantName], StableAudioEngine],
    variant: VariantName,
    edit: dict[str, object],
) -> None:
    batch = [wanted(variant, seed, **edit) for seed in range(3)]
    sources = [tone(220.0 * (seed + 1), request.duration) for seed, request in enumerate(batch)]
    engine = built(variant, choose_operations(CUDA))

    expected = clips(load(variant), *batch, sources=sources)
    found = [clips(engine, *batch, sources=sources) for _ in range(3)]

    assert engine.slowdown is None
    assert engine.graph_counts.replayed > 0
    for several in found:
        for samples, one in zip(several, expected, strict=True):
            np.testing.assert_allclose(samples, one, atol=HALF_PRECISION)


@pytest.mark.parametrize("tokens", [34, 128, 200, 193])
def test_flash_attention_leaves_out_spare_keys_and_what_a_window_excludes(tokens: int) -> None:
    torch.manual_seed(tokens)
    q, k, v = torch.randn(3, tokens, 3, 4, 64, device=CUDA, dtype=torch.half).unbind(2)
    keys = Keys.of(torch.tensor([tokens, 20, 7], device=CUDA), tokens)

    for options in ({"keys": keys}, {"window": 17}, {}):
        expected = plain(q, k, v, **options)
        for attend in (flash, masked):
            torch.testing.assert_close(attend(q, k, v, **options), expected, atol=4e-3, rtol=1e-2)


def test_a_failed_capture_turns_graphs_off_and_leaves_the_device_as_it_was() -> None:
    graphs = Graphs(CudaRecorder())
    stream = torch.cuda.current_stream()
    x = torch.arange(4.0, device=CUDA)

    def waits_for_the_host(x: torch.Tensor) -> torch.Tensor:
        return x * x.sum().item()

    torch.cuda.empty_cache()
    reserved = torch.cuda.memory_reserved()
    graphs.note("waits", (1, 4))
    with graphs.recording():
        found = graphs.run("waits", (1, 4), waits_for_the_host, x)

    assert found.tolist() == [0.0, 6.0, 12.0, 18.0]
    assert torch.cuda.current_stream() == stream
    assert graphs.fault is not None
    assert "recording waits at 1 x 4 failed" in graphs.fault
    before = torch.cuda.memory_allocated()
    big = torch.ones(1 << 26, device=CUDA)
    assert float(big.sum()) == 1 << 26
    del big
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() == before
    assert torch.cuda.memory_reserved() <= reserved + (4 << 20)
    assert torch.randn(3, device=CUDA).isfinite().all()
    assert graphs.run("waits", (1, 4), waits_for_the_host, x).tolist() == found.tolist()


def test_further_graphs_of_smaller_sizes_take_next_to_no_memory() -> None:
    weight = torch.randn(2048, 2048, device=CUDA)
    graphs = Graphs(CudaRecorder())

    def work(x: torch.Tensor) -> torch.Tensor:
        for _ in range(8):
            x = torch.tanh(x @ weight)
        return x

    with graphs.recording(), torch.inference_mode():
        graphs.note("work", (4096, 1))
        graphs.run("work", (4096, 1), work, torch.randn(4096, 2048, device=CUDA))
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        for rows in range(256, 4096, 256):
            x = torch.randn(rows, 2048, device=CUDA)
            graphs.note("work", (rows, 1))
            torch.testing.assert_close(graphs.run("work", (rows, 1), work, x), work(x))
    torch.cuda.empty_cache()

    assert graphs.counts.replayed == 16
    assert torch.cuda.memory_reserved() - before < 64 << 20


@pytest.mark.parametrize("megabytes", [64, 128, 256])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(hub_cache: Path, megabytes: int) -> None:
    batch = [wanted("small-sfx", seed, duration=100.0, steps=1) for seed in range(4)]
    engine = built("small-sfx", choose_operations(CUDA))
    expected = clips(engine, *batch)
    engine._graphs.clear()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_reserved() + (megabytes << 20)) / total
    )
    try:
        found = [engine.generate(batch, lambda row, fraction: None, lambda row: False)
                 for _ in range(3)]  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    for outcomes in found:
        for outcome, samples in zip(outcomes, expected, strict=True):
            if isinstance(outcome, Generated):
                np.testing.assert_allclose(outcome.samples, samples, atol=HALF_PRECISION)
            else:
                assert isinstance(outcome, GenerationError)
                assert "too little memory for 100 seconds" in outcome.message
    again = clips(engine, *batch)
    np.testing.assert_allclose(again[0], expected[0], atol=HALF_PRECISION)


def on_cuda(variant: VariantName) -> StableAudioEngine:
    return load(variant, EngineOptions(device="cuda", gpu_fraction=0.5, max_batch_rows=4))


def built(variant: VariantName, operations: Operations | None) -> StableAudioEngine:
    tools = Tools(flash, operations)
    snapshot = find_snapshot(variant, EngineOptions(device="cuda"))
    model, config = build_model(snapshot, device=CUDA, half=True)
    return StableAudioEngine(variant, model, config, max_batch_rows=4, tools=tools)
