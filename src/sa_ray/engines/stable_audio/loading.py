"""Start a replica's engine: pick the device, load the weights, self-test, warm up."""

from typing import Any, Final

import torch

from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines.port import EngineOptions, Generated
from sa_ray.engines.stable_audio.bfloat16 import has_bfloat16, multiply_in_bfloat16
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.selftest import check_attention, fault_of
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot
from sa_ray.errors import ConfigurationError, UnavailableError

WARM_UP_SECONDS: Final = (5.0, 30.0)
"""Clip durations whose CUDA graphs are recorded before the replica reports healthy."""

PROBE: Final = "a church bell rings"
"""A prompt whose sound is far from noise, so that noise means a fault."""


def load(variant: VariantName, options: EngineOptions) -> StableAudioEngine:
    """Load ``variant``, test it and warm it up; takes seconds to minutes.

    Raises ``ConfigurationError`` or ``UnavailableError`` with what to do about it.
    """
    device = _device(options)
    if options.cpu_threads is not None:
        torch.set_num_threads(options.cpu_threads)
    if device.type == "cuda" and options.gpu_fraction is not None:
        torch.cuda.set_per_process_memory_fraction(min(options.gpu_fraction, 1.0))
    snapshot = find_snapshot(variant, options)
    half = options.half and device.type == "cuda"
    try:
        model, config = build_model(snapshot, device=device, half=half)
        if options.half and device.type == "cpu" and has_bfloat16():
            multiply_in_bfloat16(model)
        engine = StableAudioEngine(variant, model, config, max_batch_rows=options.max_batch_rows)
        self_test(variant, model, engine)
        if device.type == "cuda":
            warm_up(variant, engine, options.max_batch_rows)
    except torch.cuda.OutOfMemoryError as error:
        raise UnavailableError(
            f"The GPU has too little memory to load {variant}: give it a larger share (`gpu` of "
            "the variant), or move another variant away."
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


def self_test(variant: VariantName, model: Any, engine: StableAudioEngine) -> None:
    """Generate a second of audio and check it. Raises ``UnavailableError`` if it is broken."""
    attention = model.model.model.transformer.layers[0].self_attn
    parameter = next(model.model.parameters())
    with torch.inference_mode():
        check_attention(
            heads=attention.num_heads,
            width=attention.dim_heads,
            dtype=parameter.dtype,
            device=parameter.device,
        )
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
    rows = {min(1 << power, max_rows) for power in range(max_rows.bit_length() + 1)}
    for seconds in WARM_UP_SECONDS:
        for count in sorted(rows):
            engine.generate([_probe(variant, seconds)] * count, _ignore_step, _never)


def _probe(variant: VariantName, seconds: float) -> ResolvedRequest:
    return ResolvedRequest(
        model=variant,
        prompt=PROBE,
        duration=seconds,
        steps=8,
        cfg_scale=1.0,
        seed=0,
    )


def _ignore_step(row: int, fraction: float) -> None:
    pass


def _never(row: int) -> bool:
    return False
