"""Simulate one GPU replica that clips of mixed lengths arrive at, by how much padding may cost.

The batch rule and the costs are those of production; time is simulated.

    python -m bench.mixed_lengths       # prints the table of bench/results/mixed_lengths.md
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sa_ray.catalogue import CATALOGUE
from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.scheduling.batch_rule import Bounds, take_batch
from sa_ray.scheduling.costs import cost_of
from sa_ray.scheduling.estimator import Estimator

CLIPS = 20_000
SEED = 20261126
MODELS: tuple[VariantName, ...] = ("small-sfx", "medium")
LONGEST_S = (30.0, 120.0)
"""Lengths are spread evenly over the logarithm, from one second to this."""
LOADS = (0.5, 0.9)
"""Arrivals, relative to what full batches of equal clips would do."""
WORTH = (0.0, 0.5, 1.0)
"""Padding allowed, relative to what costs as much as a batch by itself."""


@dataclass(frozen=True, slots=True)
class Load:
    """One arrival trace at one replica."""

    model: VariantName
    longest_s: float
    load: float

    def simulated(self, worth: float) -> tuple[float, float, float, float]:
        """Rows of a batch, milliseconds of the GPU for each clip, median and 95th percentile of
        the milliseconds from arrival to end."""
        rng = np.random.default_rng(SEED)
        spec = CATALOGUE[self.model]
        cost = cost_of(self.model, "stable-audio-3", gpu=True)
        estimator = Estimator(cost, spec.max_batch_rows, spec.max_batch_seconds)
        padding = worth * cost.batch / cost.second
        bounds = Bounds(spec.max_batch_rows, spec.max_batch_seconds, padding)
        requests = requests_of(self, rng, CLIPS)
        mean = float(np.mean([estimator.share(request) for request in requests]))
        arrivals = np.cumsum(rng.exponential(mean / self.load, CLIPS))
        now = busy = 0.0
        batches, waits = 0, []
        waiting: list[int] = []
        coming = 0
        while coming < CLIPS or waiting:
            if not waiting:
                now = max(now, float(arrivals[coming]))
            while coming < CLIPS and arrivals[coming] <= now:
                waiting.append(coming)
                coming += 1
            batch, waiting = take_batch(waiting, lambda one: requests[one], bounds)
            seconds = estimator.batch([requests[one] for one in batch])
            now += seconds
            busy += seconds
            batches += 1
            waits += [now - float(arrivals[one]) for one in batch]
        median, slow = np.quantile(waits, (0.5, 0.95)) * 1000
        return CLIPS / batches, busy / CLIPS * 1000, float(median), float(slow)


def requests_of(load: Load, rng: np.random.Generator, count: int) -> list[ResolvedRequest]:
    """Return ``count`` requests whose lengths are drawn for ``load``."""
    lengths = np.exp(rng.uniform(0, np.log(load.longest_s), count))
    return [
        ResolvedRequest(
            model=load.model,
            prompt="rain",
            duration=float(length),
            steps=8,
            cfg_scale=1.0,
            seed=0,
        )
        for length in lengths
    ]


def rows() -> Iterator[str]:
    for model in MODELS:
        for longest_s in LONGEST_S:
            for load in LOADS:
                for worth in WORTH:
                    filled, busy, median, slow = Load(model, longest_s, load).simulated(worth)
                    yield (
                        f"| {model} | 1 to {longest_s:g} s | {load:.0%} | {worth:g} | {filled:.2f} "
                        f"| {busy:.1f} | {median:.0f} | {slow:.0f} |"
                    )


if __name__ == "__main__":
    print(
        "| Model | Clips | Load | Padding | Rows of a batch | GPU ms a clip | p50, ms | p95, ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows():
        print(row, flush=True)
