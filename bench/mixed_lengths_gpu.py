"""Serve clips of mixed lengths by the real engine on a GPU, by how much padding may cost.

Weights are random, arrivals are those of ``bench.mixed_lengths``, and time is real: the engine runs
each batch of the batch rule, and the next takes what has come meanwhile.

    python -m bench.mixed_lengths_gpu --model small-sfx --seconds 12
"""

import argparse
import time

import numpy as np
import torch

from bench.mixed_lengths import WORTH, Load, requests_of
from bench.random_weights import random_model
from sa_ray.catalogue import CATALOGUE, find_variant
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.scheduling.batch_rule import Bounds, take_batch
from sa_ray.scheduling.costs import cost_of

RATE = {"small-sfx": 120.0, "small-music": 120.0, "medium": 36.0}
"""Clips of 1 to 30 s that full batches make in a second on an H100."""

LOADS = (0.5, 0.9)
"""Arrivals, relative to that."""


def main() -> None:
    options = _options()
    model = find_variant(options.model)
    if model is None:
        raise SystemExit(f"unknown model {options.model}")
    spec, cost = CATALOGUE[model], cost_of(model, "stable-audio-3", gpu=True)
    weights, config = random_model(model, torch.device("cuda"))
    engine = StableAudioEngine(model, weights, config, max_batch_rows=spec.max_batch_rows)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    load = Load(model, 30.0, 0.5)
    bounds = {
        worth: Bounds(spec.max_batch_rows, spec.max_batch_seconds, worth * cost.batch / cost.second)
        for worth in WORTH
    }
    for measured in (False, True):  # first, graphs are recorded
        for factor in LOADS:
            for worth, one in bounds.items():
                row = _served(engine, load, one, factor, options.seconds)
                print(f"| {measured} | {factor:.0%} | {worth:g} | {row} |", flush=True)


def _served(
    engine: StableAudioEngine, load: Load, bounds: Bounds, factor: float, seconds: float
) -> str:
    rng = np.random.default_rng(1)
    rate = RATE[load.model] * factor
    count = int(rate * seconds)
    requests = requests_of(load, rng, count)
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    before = engine.graph_counts.replayed, engine.graph_counts.runs
    waits: list[float] = []
    waiting: list[int] = []
    coming, batches, busy = 0, 0, 0.0
    begun = time.perf_counter()
    while coming < count or waiting:
        now = time.perf_counter() - begun
        if not waiting and arrivals[coming] > now:
            time.sleep(arrivals[coming] - now)
            now = time.perf_counter() - begun
        while coming < count and arrivals[coming] <= now:
            waiting.append(coming)
            coming += 1
        if not waiting:
            continue
        batch, waiting = take_batch(waiting, lambda one: requests[one], bounds)
        started = time.perf_counter()
        engine.generate([requests[one] for one in batch], lambda *_: None, lambda _: False)
        ended = time.perf_counter()
        busy += ended - started
        batches += 1
        waits += [ended - begun - float(arrivals[one]) for one in batch]
    replayed = engine.graph_counts.replayed - before[0]
    runs = engine.graph_counts.runs - before[1]
    median, slow = np.quantile(waits, (0.5, 0.95)) * 1000
    return (
        f"{count / batches:.2f} | {busy / count * 1000:.1f} | {median:.0f} | {slow:.0f} "
        f"| {replayed / runs:.2%} of {runs}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small-sfx")
    parser.add_argument("--seconds", type=float, default=12.0, help="of arrivals, for each row")
    return parser.parse_args()


if __name__ == "__main__":
    main()
