"""Compare the package's ``generate()`` under a lock with this project's engine, in one run.

Real-size random weights, so no gated file is needed and the speed is the true one. Each case is a
variant and a duration, at 8 steps, with ``--concurrency`` requests at once:

    python -m bench.engine --device cuda
    python -m bench.engine --device cpu --cases small-sfx:5 --concurrency 1 4
    python -m bench.engine --device cpu --tiny      # only check that it runs
"""

import argparse
import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from stable_audio_3.model import StableAudioModel

from bench.random_weights import random_model
from sa_ray.catalogue import CATALOGUE, VARIANTS
from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines.port import Generated
from sa_ray.engines.stable_audio.bfloat16 import has_bfloat16, multiply_in_bfloat16
from sa_ray.engines.stable_audio.engine import StableAudioEngine

Clock = Callable[[], float]

STEPS = 8
CASES = ("small-sfx:5", "small-music:30", "medium:30", "medium:120")


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of one case. ``latencies``: seconds from the common start to each request's audio."""

    latencies: list[float]
    audio_seconds: float

    @property
    def throughput(self) -> float:
        """Seconds of audio made per second."""
        return self.audio_seconds / max(self.latencies)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    device = torch.device(options.device)
    _print_setting(options, device)
    print("| case | at once | package: latency, audio s/s | engine: latency, audio s/s | gain |")
    print("| --- | --- | --- | --- | --- |")
    cases = [(name, float(duration)) for name, _, duration in map(_parted, options.cases)]
    for variant in VARIANTS:
        durations = [duration for name, duration in cases if name == variant]
        if durations:
            _compare(variant, durations, options, device)
            gc.collect()


def _compare(
    variant: VariantName, durations: Sequence[float], options: argparse.Namespace, device: Any
) -> None:
    model, config = random_model(variant, device, tiny=options.tiny)
    half = device.type == "cuda"
    clock = time.process_time if options.cpu_time else time.perf_counter
    package = StableAudioModel(model, config, device, half)
    alone = {}
    for duration in durations:
        list(_package(package, config, _requests(variant, duration, 1, "warm-up"), clock))
        requests = _requests(variant, duration, options.repeat, "package")
        alone[duration] = statistics.median(_package(package, config, requests, clock))
    if device.type == "cpu" and has_bfloat16() and not options.fp32:
        multiply_in_bfloat16(model)
    rows = options.rows or CATALOGUE[variant].max_batch_rows
    engine = StableAudioEngine(variant, model, config, max_batch_rows=rows)
    for duration in durations:
        for count in options.concurrency:
            if half:
                # CUDA graphs of every batch size that occurs; new prompts each time.
                with engine.recording():
                    _engine(engine, _requests(variant, duration, count, "warm-up"), rows, clock)
                _engine(engine, _requests(variant, duration, count, "again"), rows, clock)
            measured = _engine(engine, _requests(variant, duration, count, "engine"), rows, clock)
            # Under a lock requests run one after the other, so n take n times as long as one.
            theirs = [alone[duration] * (place + 1) for place in range(count)]
            _print_row(variant, duration, Measured(theirs, duration * count), measured)


def _package(
    package: Any, config: dict[str, Any], requests: Sequence[ResolvedRequest], clock: Clock
) -> Iterator[float]:
    for request in requests:
        started = clock()
        audio = package.generate(
            prompt=request.prompt,
            duration=request.duration,
            steps=request.steps,
            seed=request.seed,
            sample_size=config["sample_size"],
            disable_tqdm=True,
        )
        audio.cpu()
        yield clock() - started


def _engine(
    engine: StableAudioEngine, requests: Sequence[ResolvedRequest], rows: int, clock: Clock
) -> Measured:
    latencies = []
    started = clock()
    for first in range(0, len(requests), rows):
        batch = requests[first : first + rows]
        outcomes = engine.generate(batch, lambda row, fraction: None, lambda row: False)
        failed = [outcome for outcome in outcomes if not isinstance(outcome, Generated)]
        if failed:
            raise SystemExit(f"generation failed: {failed[0]}")
        latencies += [clock() - started] * len(batch)
    return Measured(latencies, sum(request.duration for request in requests))


def _requests(
    variant: VariantName, duration: float, count: int, name: str
) -> list[ResolvedRequest]:
    nonce = time.monotonic_ns()
    return [
        ResolvedRequest(
            model=variant,
            prompt=f"{name} {nonce} {place}: rain on a tin roof, distant thunder, close birds",
            duration=duration,
            steps=STEPS,
            cfg_scale=1.0,
            seed=place,
        )
        for place in range(count)
    ]


def _print_row(variant: str, duration: float, theirs: Measured, ours: Measured) -> None:
    def cell(measured: Measured) -> str:
        return f"{statistics.median(measured.latencies):.3f} s, {measured.throughput:.2f}"

    gain = ours.throughput / theirs.throughput
    count = len(ours.latencies)
    print(
        f"| {variant} {duration:g} s | {count} | {cell(theirs)} | {cell(ours)} | {gain:.1f} |",
        flush=True,
    )


def _print_setting(options: argparse.Namespace, device: Any) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"{time.strftime('%Y-%m-%d')}, {name}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {STEPS} steps, `{' '.join(sys.argv)}`\n")


def _parted(case: str) -> tuple[VariantName, str, str]:
    name, colon, duration = case.partition(":")
    if name not in VARIANTS or not colon:
        raise SystemExit(f"{case!r} is no case; give variant:seconds")
    return cast(VariantName, name), colon, duration


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="VARIANT:SECONDS")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rows", type=int, help="rows in a batch (default: the catalogue's)")
    parser.add_argument("--repeat", type=int, default=3, help="requests to the package")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count processor seconds, for a machine that is busy with other work",
    )
    parser.add_argument("--fp32", action="store_true", help="no bfloat16 in the engine on a CPU")
    parser.add_argument("--tiny", action="store_true", help="tiny weights: a smoke test")
    return parser.parse_args()


if __name__ == "__main__":
    main()
