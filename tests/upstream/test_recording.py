"""Graphs as the engine uses them, on a recorder that needs no GPU."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorders import RerunRecorder

from sa_ray.contracts import VariantName
from sa_ray.engines.port import Cancelled, EngineOptions, Generated
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.geometry import CHUNK, Geometry, chunk_groups, rows_padded
from sa_ray.engines.stable_audio.graphs import SETTLED, Graphs
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot
from tests.support.engine_contract import SAME_AUDIO, clips, wanted

pytestmark = pytest.mark.upstream

Load = Callable[[VariantName], StableAudioEngine]


def recording(recorder: RerunRecorder, variant: VariantName = "small-sfx") -> StableAudioEngine:
    """An engine that pads and records as on a GPU."""
    options = EngineOptions(device="cpu")
    model, config = build_model(
        find_snapshot(variant, options), device=torch.device("cpu"), half=False
    )
    return StableAudioEngine(
        variant, model, config, max_batch_rows=8, pad_shapes=True, recorder=recorder
    )


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
def test_whatever_ran_before_a_replay_gives_the_audio_of_the_request(
    load: Load, hub_cache: Path, variant: VariantName
) -> None:
    recorder = RerunRecorder()
    engine = recording(recorder, variant)
    plain = [
        wanted(model=variant, seed=seed, duration=1.0 + 9 * (seed % 3), steps=2)
        for seed in range(5)
    ]
    guided = [
        wanted(model=variant, seed=seed, steps=2, cfg_scale=2.0 + seed, negative_prompt="hiss")
        for seed in range(3)
    ]
    expected = {id(one): clips(load(variant), one)[0] for one in [*plain, *guided]}

    for batch in (plain[:1], plain, plain[1:3], guided, plain[:1], guided[:1], plain[::-1], guided):
        for samples, one in zip(clips(engine, *batch), batch, strict=True):
            np.testing.assert_allclose(samples, expected[id(one)], atol=SAME_AUDIO)
    assert engine.graph_counts.replayed > 0
    assert set(recorder.recorded.values()) <= {1, 2}


def test_a_size_is_recorded_when_it_comes_back_and_a_shrunken_batch_never(
    hub_cache: Path,
) -> None:
    recorder = RerunRecorder()
    engine = recording(recorder)
    batch = [wanted(seed=seed, steps=4) for seed in range(4)]

    clips(engine, *batch)
    assert not recorder.recorded
    clips(engine, *batch)
    first = len(recorder.recorded)
    assert first == 2  # steps and decoding; the prompts were encoded before
    for _ in range(3):
        steps: list[int] = []
        outcomes = engine.generate(
            batch,
            lambda row, fraction: steps.append(row),  # noqa: B023 - called before the next round
            lambda row: row < 2 and len(steps) > 4,  # noqa: B023
        )
        assert [type(one) for one in outcomes] == [Cancelled] * 2 + [Generated] * 2
    step_length = max(shape[-1] for shape in recorder.recorded)
    assert [shape[0] for shape in recorder.recorded if shape[-1] == step_length] == [4]


def test_prompts_of_any_length_are_replayed_once_their_lengths_were_recorded(
    load: Load, hub_cache: Path
) -> None:
    recorder = RerunRecorder()
    engine = recording(recorder)
    prompts = ["rain", "a very long description " * 3, "quite a small sound"]

    engine.record_prompts()

    assert recorder.recorded == {(1, 16): 1, (1, 32): 1}
    for seconds, prompt in enumerate(prompts):
        before = engine.graph_counts.replayed
        (samples,) = clips(engine, wanted(prompt, steps=1, duration=1.0 + 10 * seconds))
        assert engine.graph_counts.replayed == before + 1, "its steps and decoding are new"
        expected = clips(load("small-sfx"), wanted(prompt, steps=1, duration=1.0 + 10 * seconds))[0]
        np.testing.assert_allclose(samples, expected, atol=SAME_AUDIO)
    assert (recorder.recorded[1, 16], recorder.recorded[1, 32]) == (1, 1)


def out_of_memory_beyond(rows: int, length: int) -> Callable[[Sequence[Any]], None]:
    def fails(inputs: Sequence[Any]) -> None:
        shape = inputs[0].shape
        if shape[0] > rows and shape[-1] == length:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    return fails


def test_decoding_that_does_not_fit_beside_graphs_runs_without_them(
    load: Load, hub_cache: Path
) -> None:
    recorder = RerunRecorder(fails=out_of_memory_beyond(2, 64))
    engine = recording(recorder)
    batch = [wanted(seed=seed, duration=5.0, steps=1) for seed in range(4)]

    with engine.recording():
        for _ in range(3):
            for samples, one in zip(clips(engine, *batch), batch, strict=True):
                np.testing.assert_allclose(
                    samples, clips(load("small-sfx"), one)[0], atol=SAME_AUDIO
                )
    assert sum(recorder.recorded.values()) <= 3 * 3  # prompts, step, decoding: once a batch
    assert engine.slowdown is None


def test_a_recording_that_fails_turns_graphs_off_and_says_so(
    load: Load, hub_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(inputs: Sequence[Any]) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    recorder = RerunRecorder(fails=fails)
    engine = recording(recorder)
    assert engine.slowdown is None

    with engine.recording():
        (samples,) = clips(engine, wanted())
        clips(engine, wanted(), wanted(seed=2))

    np.testing.assert_allclose(samples, clips(load("small-sfx"), wanted())[0], atol=SAME_AUDIO)
    assert sum(recorder.recorded.values()) == 1
    assert engine.slowdown is not None
    assert "not permitted when stream is capturing" in engine.slowdown
    assert "CUDA graphs are off until this replica is started again" in caplog.text


def test_a_size_that_does_not_fit_while_it_is_recorded_is_not_tried_again() -> None:
    """Each try costs all graphs that there are."""

    def fail(inputs: Sequence[Any]) -> None:
        if len(inputs[0]) == 8:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    recorder = RerunRecorder(fails=fail)
    graphs = Graphs(recorder)

    def run(rows: int) -> float:
        graphs.note("double", (rows, 1))
        doubled: torch.Tensor = graphs.run("double", (rows, 1), lambda x: 2 * x, torch.ones(rows))
        return float(doubled.sum())

    with graphs.recording():
        run(1)
        with pytest.raises(torch.cuda.OutOfMemoryError):
            run(8)
        for _ in range(3):
            assert (run(8), run(1)) == (16, 2)

    # The larger inputs moved the shared ones, which costs the graph of the smaller once.
    assert recorder.recorded == {(1,): 2, (8,): 1}


def test_graphs_over_their_budget_make_room_only_where_none_would_miss_them() -> None:
    recorder = RerunRecorder(size=100)
    graphs = Graphs(recorder, max_bytes=250)

    def run(rows: int) -> None:
        graphs.note("double", (rows, 1))
        assert graphs.run("double", (rows, 1), lambda x: 2 * x, torch.ones(rows)).sum() == 2 * rows

    with graphs.recording():
        for rows in (9, 1, 2, 3, 4, 3, 4):
            run(rows)
        assert recorder.recorded == {(9,): 1, (1,): 1, (2,): 1}
        for _ in range(SETTLED):
            run(2)
        run(3)
    assert recorder.recorded[3,] == 1


MIXES = {
    "small": (Geometry(44_100, 4096, 2, 1292, 4), 30),
    "long": (Geometry(44_100, 4096, 2, 1292, 4), 120),
    "medium": (Geometry(44_100, 4096, 2, 4096, 14), 120),
}


@pytest.mark.parametrize("mix", MIXES)
def test_in_an_hour_of_mixed_lengths_nearly_every_run_is_a_replay(mix: str) -> None:
    geometry, longest = MIXES[mix]
    traffic = random.Random(0)
    graphs = Graphs(RerunRecorder(size=1 << 20))

    def run(name: str, rows: int, length: int, times: int) -> None:
        graphs.note(name, (rows, length))
        for _ in range(times):
            graphs.run(name, (rows, length), lambda x: x, torch.zeros(rows, length))

    for _ in range(4000):  # batches of 0.9 s, which is slow
        duration, rows = traffic.uniform(1, longest), traffic.randint(1, 8)
        sides = 2 if traffic.random() < 0.15 else 1
        length = geometry.padded(geometry.latents(duration))
        run("text", 16, traffic.choice([16, 32, 32, 64, 128]), 1)
        run("denoise", rows_padded(rows * sides, 8 * sides), length, 8)
        clips = [(geometry.decoded(duration), CHUNK)] * rows
        for (group, size), _ in chunk_groups(clips, margin=geometry.margin, pad_shapes=True):
            run("decode", group, size, 1)

    assert graphs.counts.replayed / graphs.counts.runs >= 0.98
