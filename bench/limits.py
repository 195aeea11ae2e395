"""Memory and time of batches as they grow: the source of `max_batch_rows` and `max_batch_seconds`.

Real-size random weights. Memory does not depend on the steps, so one step is taken; times are for
that one step. On CUDA the table ends at a batch that does not fit.

    python -m bench.limits --device cuda
    python -m bench.limits --device cpu --variants small-sfx --batches 1x5 4x5 1x30 4x30
"""

import argparse
import ctypes
import logging
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bench.random_weights import random_model
from sa_ray.catalogue import CATALOGUE, VARIANTS
from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines.port import Generated
from sa_ray.engines.stable_audio.bfloat16 import has_bfloat16, multiply_in_bfloat16
from sa_ray.engines.stable_audio.engine import StableAudioEngine

BATCHES = ("1x5", "8x5", "16x5", "32x5", "64x5", "1x30", "8x30", "16x30", "32x30", "1x120", "4x120",
           "8x120", "16x120")  # fmt: skip
MEBI = 2**20


def main() -> None:
    options = _options()
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"{time.strftime('%Y-%m-%d')}, {name}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, `{' '.join(sys.argv)}`\n")
    print("| variant | rows x seconds | padded audio, s | MiB over the weights | seconds, a step |")
    print("| --- | --- | --- | --- | --- |")
    for variant in options.variants:
        _measure(variant, [_parted(batch) for batch in options.batches], device)


def _measure(variant: VariantName, batches: list[tuple[int, float]], device: torch.device) -> None:
    model, config = random_model(variant, device)
    if device.type == "cpu" and has_bfloat16():
        multiply_in_bfloat16(model)
    engine = StableAudioEngine(
        variant, model, config, max_batch_rows=max(rows for rows, _ in batches)
    )
    memory = Memory(device)
    points = []
    for rows, seconds in batches:
        if seconds > CATALOGUE[variant].max_duration:
            continue
        with engine.recording():  # so that a replay is timed
            fits = device.type != "cuda" or _fits(engine, variant, rows, seconds)
        memory.start()
        started = time.perf_counter()
        if not fits or not _fits(engine, variant, rows, seconds):
            print(f"| {variant} | {rows} x {seconds:g} | {rows * seconds:g} | does not fit | |")
            break
        taken = time.perf_counter() - started
        used = memory.peak() / MEBI
        points.append((rows, rows * seconds, used))
        print(f"| {variant} | {rows} x {seconds:g} | {rows * seconds:g} | {used:.0f} | ", end="")
        print(f"{taken:.2f} |", flush=True)
    each, per_second, constant = _fitted(points)
    print(
        f"\n{variant}: {constant:.0f} MiB, {each:.0f} for each row, {per_second:.1f} for each ",
        end="",
    )
    print("second of it (least squares)\n")


def _fits(engine: StableAudioEngine, variant: VariantName, rows: int, seconds: float) -> bool:
    requests = [
        ResolvedRequest(
            model=variant, prompt="rain", duration=seconds, steps=1, cfg_scale=1.0, seed=row
        )
        for row in range(rows)
    ]
    full = OutOfMemory()
    logger = logging.getLogger(StableAudioEngine.__module__)
    logger.addHandler(full)
    outcomes = engine.generate(requests, lambda row, fraction: None, lambda row: False)
    logger.removeHandler(full)
    return not full.seen and all(isinstance(outcome, Generated) for outcome in outcomes)


class OutOfMemory(logging.Handler):
    """Notices that the engine halves a batch, which it only logs as a warning."""

    seen = False

    def emit(self, record: logging.LogRecord) -> None:
        self.seen = True


class Memory:
    """Most memory that a batch takes over the weights, in bytes.

    On CUDA it is what torch reserves of the GPU, with the graphs of earlier batches, which a
    replica would hold as well.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0

    def start(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            ctypes.CDLL(None).malloc_trim(0)  # what was freed counts until it is handed back
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
            self._before = _status("VmRSS")

    def peak(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device) - self._before
        return _status("VmHWM") - self._before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(value) * 1024


def _fitted(points: list[tuple[int, float, float]]) -> tuple[float, float, float]:
    """Fit the memory of batches, MiB, to parts per row, per second and constant."""
    causes = np.array([(rows, seconds, 1.0) for rows, seconds, _ in points])
    shares, *_ = np.linalg.lstsq(causes, np.array([used for *_, used in points]))
    each, per_second, constant = shares
    return float(each), float(per_second), float(constant)


def _parted(batch: str) -> tuple[int, float]:
    rows, _, seconds = batch.partition("x")
    try:
        return int(rows), float(seconds)
    except ValueError:
        raise SystemExit(f"{batch!r} is no batch; give rows x seconds, as in 4x30") from None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--variants", nargs="+", default=["small-sfx", "medium"], choices=VARIANTS)
    parser.add_argument("--batches", nargs="+", default=BATCHES, metavar="ROWSxSECONDS")
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
