"""The engine on a CUDA device that does not exist: what CUDA graphs forbid, kernels and memory."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretended import (
    CUDA,
    CaptureCheck,
    CheckingRecorder,
    IllegalInCaptureError,
    OneKernelEach,
    PeakMemory,
    pretended_cuda,
    pretended_model,
)
from stable_audio_3.models import dit
from stable_audio_3.models import transformer as package_transformer

from sa_ray.contracts import Lora, Region, ResolvedRequest, VariantName
from sa_ray.engines.adapters import LEFT_OUT, AdapterHeader
from sa_ray.engines.port import Cancelled, EngineOptions, Generated
from sa_ray.engines.stable_audio import loading
from sa_ray.engines.stable_audio.attention import Attend, flash, masked
from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.calibration import calibrate, stopwatch
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.loading import OUTSIDE_BYTES, warm_up
from sa_ray.engines.stable_audio.lora import Adapter, Change
from sa_ray.engines.stable_audio.operations import Operations, TorchOperations
from sa_ray.scheduling.costs import cost_of

pytestmark = pytest.mark.upstream

H100_BYTES = 80 << 30


@pytest.fixture
def cuda() -> Iterator[None]:
    with pretended_cuda():
        yield


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=H100_BYTES)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


def engine_for(
    variant: VariantName,
    recorder: CheckingRecorder,
    *,
    tiny: bool = True,
    attend: Attend = flash,
    operations: Operations | None = None,
    lora_dir: Path | None = None,
) -> StableAudioEngine:
    model, config = pretended_model(variant, tiny=tiny)
    tools = Tools(attend, operations)
    return StableAudioEngine(
        variant, model, config, tools=tools, recorder=recorder, lora_dir=lora_dir
    )


def batch(variant: VariantName, rows: int, **changes: object) -> list[ResolvedRequest]:
    fields: dict[str, object] = {"model": variant, "duration": 5.0, "steps": 3, "cfg_scale": 1.0}
    return [
        ResolvedRequest.model_validate({**fields, "prompt": f"rain {row}", "seed": row, **changes})
        for row in range(rows)
    ]


def sources(requests: list[ResolvedRequest], rows: int) -> list[np.ndarray | None]:
    """Silence for the first ``rows`` of ``requests``, nothing for the others."""
    lengths = [round(request.duration * 44_100) for request in requests]
    silence = [np.zeros((2, length), np.float32) for length in lengths[:rows]]
    return [*silence, *[None] * (len(requests) - rows)]


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize("size", ["tiny", "real"])
@pytest.mark.parametrize(
    ("attend", "operations"),
    [(flash, TorchOperations()), (masked, TorchOperations()), (masked, None)],
    ids=["fused, flash", "fused, masked", "package"],
)
@pytest.mark.usefixtures("cuda")
def test_all_that_is_recorded_may_be(
    variant: VariantName, size: str, attend: Attend, operations: Operations | None
) -> None:
    recorder = CheckingRecorder()
    engine = engine_for(
        variant, recorder, tiny=size == "tiny", attend=attend, operations=operations
    )
    assert engine.device == "cuda"

    def generate(rows: list[ResolvedRequest]) -> list[type]:
        outcomes = engine.generate(rows, lambda row, fraction: None, lambda row: False)
        return [type(one) for one in outcomes]

    with engine.recording():
        assert generate(batch(variant, 3)) == [Generated] * 3
        assert generate(batch(variant, 2, duration=30.0)) == [Generated] * 2
        guided = batch(variant, 2, cfg_scale=4.0, negative_prompt="hiss", duration=7.0)
        assert generate(guided) == [Generated] * 2
        assert generate(batch(variant, 1, chunked_decode=False, duration=90.0)) == [Generated]
        steps: list[int] = []
        outcomes = engine.generate(
            batch(variant, 3),
            lambda row, fraction: steps.append(row),
            lambda row: row == 0 and len(steps) > 3,
        )
        assert [type(one) for one in outcomes] == [Cancelled, Generated, Generated]

    assert (engine.slowdown is None) == (operations is not None)
    assert len(recorder.kernels) >= 7


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.parametrize(
    ("attend", "operations"),
    [(flash, TorchOperations()), (masked, None)],
    ids=["fused, flash", "package"],
)
@pytest.mark.usefixtures("cuda")
def test_all_that_is_recorded_for_edits_may_be(
    variant: VariantName, attend: Attend, operations: Operations | None
) -> None:
    recorder = CheckingRecorder()
    engine = engine_for(variant, recorder, attend=attend, operations=operations)
    regions = Region(start=0.0, end=0.7), Region(start=2.0, end=4.0)
    steps: list[int] = []

    def generate(edits: list[ResolvedRequest], *others: ResolvedRequest) -> list[type]:
        requests = [*edits, *others]
        outcomes = engine.generate(
            requests,
            lambda row, fraction: steps.append(row),
            lambda row: row == 1 and len(steps) > 20,
            sources(requests, len(edits)),
        )
        return [type(one) for one in outcomes]

    with engine.recording():
        text = batch(variant, 1)
        assert generate(batch(variant, 2, init_noise_level=0.4), *text) == [Generated] * 3
        assert generate(batch(variant, 2, regions=regions), *text) == [Generated] * 3
        guided = batch(variant, 3, regions=regions, cfg_scale=4.0, duration=30.0)
        assert generate(guided) == [Generated, Cancelled, Generated]

    assert engine.slowdown is None or operations is None
    assert {len(shapes) for shapes in recorder.kernels} == {1, 2, 5, 6}


@pytest.mark.usefixtures("cuda")
def test_after_warm_up_neither_calibration_nor_the_defaults_of_the_api_record_anything() -> None:
    recorder = CheckingRecorder()
    engine = engine_for("small-sfx", recorder, operations=TorchOperations())
    asked: list[tuple[int, float]] = []

    warm_up("small-sfx", engine, 4)
    recorded = recorder.recordings
    run = stopwatch(engine, lambda length, prompt: batch("small-sfx", 1, duration=length)[0])

    def measure(rows: int, length: float) -> float | None:
        asked.append((rows, length))
        took = run(rows, length)
        return took and 1 + rows  # what a pretended device takes says nothing

    calibration = calibrate(measure, cost_of("small-sfx", "stable-audio-3", gpu=True), 4)
    for rows in (1, 2, 3, 4):
        for changes in ({}, {"cfg_scale": 3.0, "negative_prompt": "hiss " * 20}):
            engine.generate(
                batch("small-sfx", rows, duration=7.0, **changes),
                lambda row, fraction: None,
                lambda row: False,
            )
    edit = batch("small-sfx", 1, duration=7.0, regions=(Region(start=1.0, end=7.0),))
    engine.generate(edit, lambda row, fraction: None, lambda row: False, sources(edit, 1))

    assert recorder.recordings == recorded == len(recorder.kernels)
    assert asked == [(rows, length) for length in (5, 30) for rows in (1, 2, 4)]
    assert calibration is not None
    assert calibration.max_rows == 4


@pytest.mark.usefixtures("cuda", "h100")
def test_a_start_measures_the_gpu_and_the_next_one_reads_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "HF_HOME", str(tmp_path))
    engine = engine_for("small-sfx", CheckingRecorder(), operations=TorchOperations())
    options = EngineOptions(gpu_fraction=0.25, max_batch_rows=4)
    runs = engine.graph_counts

    measured = loading.on_cuda("small-sfx", engine, options)
    after = runs.runs
    again = loading.on_cuda("small-sfx", engine, options)
    assert runs.runs == after

    loading.on_cuda("small-sfx", engine, replace(options, gpu_fraction=0.5))
    assert runs.runs > after
    assert measured is not None
    assert measured == again
    assert 1 <= measured.max_rows <= 4
    assert len(list(Path(tmp_path, "sa-ray").iterdir())) == 2


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize("share", [None, 0.02, 0.25, 1.0])
def test_the_bound_on_memory_leaves_room_for_what_torch_does_not_count(
    share: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda bound, device: bounds.append(bound)
    )

    for_graphs = loading.bound_memory(CUDA, share)

    assert for_graphs <= (share or 1) * H100_BYTES / 8
    assert bounds == [] if share is None else len(bounds) == 1
    for bound in bounds:
        assert share is not None
        left = share * H100_BYTES - bound * H100_BYTES
        assert left == pytest.approx(min(OUTSIDE_BYTES, share * H100_BYTES / 2))


@pytest.mark.parametrize(("variant", "most"), [("small-sfx", 400), ("medium", 600)])
@pytest.mark.usefixtures("cuda")
def test_a_fused_step_of_the_real_size_has_a_third_of_the_packages_kernels(
    variant: VariantName, most: int
) -> None:
    def kernels(attend: Attend, *, fused: bool) -> int:
        recorder = CheckingRecorder()
        operations = OneKernelEach(recorder) if fused else None
        engine = engine_for(variant, recorder, tiny=False, attend=attend, operations=operations)
        with engine.recording():
            engine.generate(batch(variant, 8), lambda row, fraction: None, lambda row: False)
        [step] = [count for shapes, count in recorder.kernels.items() if len(shapes) == 5]
        return step

    ours, theirs = kernels(flash, fused=True), kernels(masked, fused=False)
    print(f"{variant}: {theirs} kernels a step, {ours} fused")
    assert ours < most
    assert ours < theirs / 3


@pytest.mark.parametrize(
    ("variant", "rows", "duration", "megabytes"),
    [("small-sfx", 8, 5.0, 600), ("small-sfx", 8, 30.0, 900), ("medium", 4, 30.0, 1300)],
)
@pytest.mark.usefixtures("cuda")
def test_a_batch_stays_within_its_memory(
    variant: VariantName, rows: int, duration: float, megabytes: int
) -> None:
    engine = engine_for(variant, CheckingRecorder(), tiny=False, operations=TorchOperations())
    for _ in range(3):  # as it is, recorded, replayed
        with PeakMemory() as memory:
            engine.generate(
                batch(variant, rows, duration=duration),
                lambda row, fraction: None,
                lambda row: False,
            )
    assert memory.peak < megabytes << 20


@pytest.mark.parametrize(
    ("illegal", "what"),
    [
        (lambda x: x * x.sum().item(), "waits for the host"),
        (lambda x: x[x > 0], "waits for the host"),
        (lambda x: x + torch.randn(3, device=CUDA), "random numbers"),
        (lambda x: x + torch.ones(3).to(CUDA), "on the CPU"),
        (lambda x: x.cpu(), "across devices"),
    ],
    ids=["item", "mask", "random", "from the host", "to the host"],
)
@pytest.mark.usefixtures("cuda")
def test_the_check_finds_what_capture_forbids(illegal: object, what: str) -> None:
    x = torch.empty(3, device=CUDA)
    assert callable(illegal)
    with pytest.raises(IllegalInCaptureError, match=what), CaptureCheck():
        illegal(x)


@pytest.mark.usefixtures("cuda")
def test_the_check_finds_the_packages_packed_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """What installing flash-attn would do, were the package left to it."""
    recorder = CheckingRecorder()
    engine = engine_for("small-sfx", recorder, attend=masked)
    monkeypatch.setattr(package_transformer, "unpad_input", lambda x, *_: x)
    for name in ("flash_attn_varlen_func", "index_first_axis", "pad_input"):
        monkeypatch.setattr(package_transformer, name, lambda x, *_, **__: x)

    with engine.recording(), pytest.raises(IllegalInCaptureError, match="waits for the host"):
        engine.generate(batch("small-sfx", 1), lambda row, fraction: None, lambda row: False)


@pytest.mark.usefixtures("cuda")
def test_flash_attn_installed_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_transformer, "unpad_input", lambda x, *_: x)
    for name in ("flash_attn_varlen_func", "index_first_axis", "pad_input"):
        monkeypatch.setattr(package_transformer, name, lambda x, *_, **__: x)
    engine = engine_for("small-sfx", CheckingRecorder(), attend=masked)

    with engine.recording():
        (outcome,) = engine.generate(
            batch("small-sfx", 1), lambda row, fraction: None, lambda row: False
        )
    assert isinstance(outcome, Generated)


@pytest.mark.usefixtures("cuda")
def test_the_check_finds_the_packages_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A LoRA that is not merged reads its noise level on the host at every step."""
    engine = engine_for("small-sfx", CheckingRecorder(), attend=masked)
    monkeypatch.setattr(dit, "has_lora", lambda model: True)
    for name in ("enable_lora", "disable_lora", "filter_lora_layers"):
        monkeypatch.setattr(dit, name, lambda *_, **__: None)

    with engine.recording(), pytest.raises(IllegalInCaptureError, match="waits for the host"):
        engine.generate(batch("small-sfx", 1), lambda row, fraction: None, lambda row: False)


def hold_an_adapter(engine: StableAudioEngine, rank: int = 16) -> Lora:
    """Have ``engine`` hold an adapter of all layers, as if it had read it."""
    lora = Lora(name="warm", strength=1.0, sha256="0" * 64)
    sizes, changes = {}, {}
    for name, layer in engine.adapters._layers.items():
        outputs, inputs = layer.weight.flatten(1).shape
        sizes[name] = outputs, inputs
        down, up = torch.empty(rank, inputs).half(), torch.empty(outputs, rank).half()
        changes[name] = Change(down, up, ((1, torch.empty(outputs).half()),))
    header = AdapterHeader("warm", 1, "dora-rows", rank, 1.0, sizes, ())
    engine.adapters._read[lora.sha256] = Adapter(header, changes)
    return lora


@pytest.mark.parametrize("size", ["tiny", "real"])
@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
@pytest.mark.usefixtures("cuda")
def test_adapters_are_merged_on_the_device_and_what_is_recorded_stays(
    variant: VariantName, size: str
) -> None:
    recorder = CheckingRecorder()
    operations = TorchOperations()
    engine = engine_for(variant, recorder, tiny=size == "tiny", operations=operations)
    lora = hold_an_adapter(engine)
    weights = [layer.weight for layer in engine.adapters._layers.values()]

    def generate(**changes: object) -> list[type]:
        rows = batch(variant, 2, **changes)
        outcomes = engine.generate(rows, lambda row, fraction: None, lambda row: False)
        return [type(one) for one in outcomes]

    with engine.recording():
        assert generate() == [Generated] * 2
        recorded = recorder.recordings
        with PeakMemory() as memory:
            assert generate(loras=[lora]) == [Generated] * 2
        assert generate() == [Generated] * 2

    assert recorder.recordings == recorded
    assert not engine.adapters._bases
    copies = sum(weight.nbytes for weight in weights)
    assert copies < memory.peak < copies + (256 << 20)


@pytest.mark.usefixtures("cuda")
def test_memory_for_adapters_of_all_layers_is_taken_while_batches_are_measured(
    tmp_path: Path,
) -> None:
    engine = engine_for("small-sfx", CheckingRecorder(), lora_dir=tmp_path)
    without = engine_for("small-sfx", CheckingRecorder())
    lora = hold_an_adapter(engine)

    with PeakMemory() as reserving, engine.adapters.reserved():
        pass
    with PeakMemory() as merging, torch.inference_mode():
        engine.adapters.use((lora,))
    with PeakMemory() as nothing, without.adapters.reserved():
        pass

    bases = engine.adapters._bases.items()
    copies = sum(base.nbytes for name, base in bases if not name.startswith(LEFT_OUT))
    assert reserving.peak == copies
    assert copies < merging.peak
    assert nothing.peak == 0
