"""The engine of a GPU in a process that does nothing else: what serving is compared with."""

import argparse
import itertools
import json
import statistics
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines.port import EngineOptions

STEPS: Final = 8
SHORT_S: Final = 5.0
"""Seconds of audio of the clips that are counted."""

ALONE_BATCHES: Final = 30

_numbers = itertools.count(time.time_ns())


def new_prompt() -> str:
    """Return a prompt that was never seen: prompts are remembered once they are encoded."""
    return f"rain on a tin roof, distant thunder, close birds, take {next(_numbers)}"


def alone(function: Any, *arguments: Any) -> Any:
    """Call ``function`` in a process of its own, which gives the GPU's memory back."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def write_weights(weights: Path, variant: VariantName, device: str, tiny: bool) -> None:
    """Write the checkpoint of ``variant``, unless it is there."""
    import torch

    from bench.random_weights import write_checkpoint

    if not (weights / variant).exists():
        write_checkpoint(weights / variant, variant, torch.device(device), tiny=tiny)


def limits_of(options: argparse.Namespace) -> dict[int, float]:
    """Return the clips a second that the engine makes alone, by rows of a batch."""
    if options.limits and options.limits.exists():
        kept = json.loads(options.limits.read_text())
        return {int(rows): limit for rows, limit in kept.items()}
    limits = alone(_engine_limits, options.weights, options.device, sorted(options.rows))
    if options.limits:
        options.limits.write_text(json.dumps(limits))
    return dict(limits)


def _engine_limits(weights: Path, device: str, rows: list[int]) -> dict[int, float]:
    """Return the clips a second of the engine in a process that does nothing else, by rows."""
    from sa_ray.engines.stable_audio.loading import load

    options = EngineOptions(
        device=device,
        weights_dir=weights,
        gpu_fraction=0.5,
        cpu_threads=1,
        max_batch_rows=max(rows),
    )
    engine = load("small-sfx", options)
    limits = {}
    for count in sorted({1, *rows}):
        took = []
        for turn in range(ALONE_BATCHES):
            batch = [_resolved() for _ in range(count)]
            begun = time.perf_counter()
            engine.generate(batch, lambda *_: None, lambda _: False)
            if turn > ALONE_BATCHES / 3:
                took.append(time.perf_counter() - begun)
        limits[count] = count / statistics.fmean(took)
        median = 1000 * statistics.median(took)
        print(
            f"engine alone, {count} rows: {limits[count]:.1f} clips/s, {median:.1f} ms a batch",
            flush=True,
        )
    return limits


def _resolved() -> ResolvedRequest:
    return ResolvedRequest(
        model="small-sfx",
        prompt=new_prompt(),
        duration=SHORT_S,
        steps=STEPS,
        cfg_scale=1.0,
        seed=next(_numbers) % 1_000_000,
    )
