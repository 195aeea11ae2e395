"""Start a replica's engine: pick the device, load the weights, self-test, warm up."""

import logging
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from huggingface_hub.constants import HF_HOME

from sa_ray import __version__
from sa_ray.contracts import Region, ResolvedRequest, VariantName
from sa_ray.engines.port import EngineOptions, Generated
from sa_ray.engines.stable_audio.bfloat16 import has_bfloat16, multiply_in_bfloat16
from sa_ray.engines.stable_audio.calibration import calibrate, remembered, stopwatch
from sa_ray.engines.stable_audio.device_faults import is_out_of_memory
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.selftest import fault_of
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot
from sa_ray.errors import ConfigurationError, UnavailableError
from sa_ray.scheduling.costs import Calibration, cost_of

_log = logging.getLogger(__name__)

WARM_UP_SECONDS: Final = (30.0, 7.0, 5.0)
"""Clip durations whose CUDA graphs are recorded before the replica reports healthy; 7 s is the
default of the API. The longest comes first: all graphs share its memory."""

WARM_UP_SCALES: Final = (7.0, 1.0)
"""Guidance scales to warm up, guided first: it takes twice the rows."""

OUTSIDE_BYTES: Final = 700 << 20
"""GPU memory that is not torch's to bound: the CUDA context, modules, cuBLAS, recorded graphs."""

GRAPH_SHARE: Final = 1 / 8
"""Share of the memory that CUDA graphs may take beside what their kernels work on."""

PROBE: Final = "a church bell rings"
"""A prompt whose sound is far from noise, so that noise means a fault."""


def load(variant: VariantName, options: EngineOptions) -> StableAudioEngine:
    """Load ``variant``, test it and warm it up; takes seconds to minutes.

    Raises ``ConfigurationError`` or ``UnavailableError`` with what to do about it.
    """
    device = _device(options)
    if options.cpu_threads is not None:
        torch.set_num_threads(options.cpu_threads)
    graph_bytes = bound_memory(device, options.gpu_fraction) if device.type == "cuda" else 0
    snapshot = find_snapshot(variant, options)
    half = options.half and device.type == "cuda"
    try:
        model, config = build_model(snapshot, device=device, half=half)
        if options.half and device.type == "cpu" and has_bfloat16():
            multiply_in_bfloat16(model)
        engine = StableAudioEngine(
            variant,
            model,
            config,
            max_batch_rows=options.max_batch_rows,
            graph_bytes=graph_bytes,
            lora_dir=options.lora_dir,
        )
        self_test(variant, engine)
        engine.adapters.say_which_do_not_fit()
        if device.type == "cuda":
            with engine.adapters.reserved():
                warm_up(variant, engine, options.max_batch_rows)
                engine.calibration = on_cuda(variant, engine, options)
        elif device.type == "cpu":
            engine.calibration = on_cpu(variant, engine)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        copies = " It needs room for copies of weights, for adapters (STABLE_AUDIO_LORA_DIR)."
        raise UnavailableError(
            f"The GPU has too little memory to load {variant}: give it a larger share (`gpu` of "
            f"the variant), or move another variant away.{copies if options.lora_dir else ''}"
        ) from error
    return engine


def _device(options: EngineOptions) -> Any:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = options.device
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    elif not available[name]:
        raise ConfigurationError(
            f"STABLE_AUDIO_DEVICE={name}, but torch {torch.__version__} sees no such device here."
        )
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


def bound_memory(device: Any, fraction: float | None) -> int:
    """Keep torch within ``fraction`` of the GPU, less what it does not count.

    Return the bytes for CUDA graphs.
    """
    total = torch.cuda.get_device_properties(device).total_memory
    share = min(fraction or 1.0, 1.0)
    if fraction is not None:
        bounded = max(share - OUTSIDE_BYTES / total, share / 2)
        torch.cuda.set_per_process_memory_fraction(bounded, device)
    return int(GRAPH_SHARE * share * total)


def self_test(variant: VariantName, engine: StableAudioEngine) -> None:
    """Generate a second of audio and check it. Raises ``UnavailableError`` if it is broken."""
    (outcome,) = engine.generate([_probe(variant, 1.0)], _ignore_step, _never)
    fault = fault_of(outcome.samples) if isinstance(outcome, Generated) else str(outcome)
    if fault is not None:
        raise UnavailableError(
            f"The self-test of {variant} on {engine.device} failed: {fault}. Check the weights, "
            "and the versions of torch and of the GPU driver; with "
            "STABLE_AUDIO_MODEL_HALF=false it runs in fp32."
        )


def warm_up(variant: VariantName, engine: StableAudioEngine, max_rows: int) -> None:
    """Record the CUDA graphs of common shapes, so that no caller waits for it."""
    engine.record_prompts()
    rows = {min(1 << power, max_rows) for power in range(max_rows.bit_length() + 1)}
    for seconds in WARM_UP_SECONDS:
        for scale in WARM_UP_SCALES:
            for count in sorted(rows, reverse=True):
                with engine.recording():
                    batch = [_probe(variant, seconds, scale)] * count
                    engine.generate(batch, _ignore_step, _never)
        # Alone: edits come seldom enough for larger batches of them to be recorded in passing.
        edit = _probe(variant, seconds).model_copy(
            update={"regions": (Region(start=0.0, end=seconds / 2),)}
        )
        silence = np.zeros((2, round(seconds * engine.sample_rate)), np.float32)
        with engine.recording():
            engine.generate([edit], _ignore_step, _never, [silence])


def on_cpu(variant: VariantName, engine: StableAudioEngine) -> Calibration:
    """Return what holds on any CPU, where batches gain nothing (``bench/results/engine.md``)."""
    return Calibration(cost=cost_of(variant, engine.name, gpu=False), max_rows=1)


def on_cuda(
    variant: VariantName, engine: StableAudioEngine, options: EngineOptions
) -> Calibration | None:
    """Return what batches cost on this GPU, measured now or at an earlier start."""
    device = torch.cuda.get_device_properties(0)
    key = {
        "variant": variant,
        "device": device.name,
        "memory": device.total_memory,
        "share": options.gpu_fraction,
        "max_rows": options.max_batch_rows,
        "half": options.half,
        "adapters": options.lora_dir is not None,
        "slowdown": engine.slowdown and engine.slowdown.partition(":")[0],
        "versions": [__version__, torch.__version__, torch.version.cuda],
    }
    started = time.perf_counter()
    found = remembered(
        Path(HF_HOME, "sa-ray"),
        key,
        lambda: calibrate(
            stopwatch(engine, lambda length, prompt: _probe(variant, length, prompt=prompt)),
            cost_of(variant, engine.name, gpu=True),
            options.max_batch_rows,
        ),
    )
    _log.info(
        "%s on %s, within %.1f s: %s", variant, device.name, time.perf_counter() - started, found
    )
    if found and found.max_rows < options.max_batch_rows:
        # A batch that did not fit may have cost what was recorded.
        warm_up(variant, engine, found.max_rows)
    return found


def _probe(
    variant: VariantName, seconds: float, scale: float = 1.0, prompt: str = PROBE
) -> ResolvedRequest:
    return ResolvedRequest(
        model=variant,
        prompt=prompt,
        duration=seconds,
        steps=8 if scale == 1 else 2,
        cfg_scale=scale,
        seed=0,
    )


def _ignore_step(row: int, fraction: float) -> None:
    pass


def _never(row: int) -> bool:
    return False
