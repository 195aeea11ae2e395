"""Compare rows that join and leave between steps with whole batches, by simulation.

Requests arrive at random (Poisson) and take 8 steps. A step of ``n`` rows costs
``fixed + n * per_row``; so do encoding prompts and decoding audio, on the same processor. Whole
batches: the engine takes all waiting requests, at most ``--rows``, and returns them together.
Continuous: before each step, waiting requests join while there is room, and a row that has had its
steps is decoded and leaves.

    python -m bench.scheduling
"""

import argparse
import random
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

STEPS = 8
REQUESTS = 20_000
LOADS = (0.3, 0.6, 0.8, 0.95)


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds for ``n`` rows: ``fixed + n * per_row``."""

    fixed: float
    per_row: float

    def __call__(self, rows: int) -> float:
        return self.fixed + rows * self.per_row if rows else 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    text: Cost
    step: Cost
    decode: Cost

    def batch(self, rows: int) -> float:
        """Return the seconds of a whole batch."""
        return self.text(rows) + STEPS * self.step(rows) + self.decode(rows)

    def capacity(self, rows: int) -> float:
        """Return the requests per second with full batches."""
        return rows / self.batch(rows)


MACHINES = (
    Machine(
        "launch-bound: a short clip on a large GPU, each row a fifth of the fixed cost",
        text=Cost(0.002, 0.0005),
        step=Cost(0.0015, 0.0003),
        decode=Cost(0.002, 0.0005),
    ),
    Machine(
        "the same with prompts and decoding for free: the best case for continuous batching",
        text=Cost(0, 0),
        step=Cost(0.0015, 0.0003),
        decode=Cost(0, 0),
    ),
    Machine(
        "balanced: each row as much as the fixed cost",
        text=Cost(0.002, 0.0005),
        step=Cost(0.0015, 0.0015),
        decode=Cost(0.002, 0.0015),
    ),
    Machine(
        "compute-bound: a long clip, or any on a CPU",
        text=Cost(0.002, 0.0005),
        step=Cost(0.0005, 0.012),
        decode=Cost(0.002, 0.02),
    ),
)


def whole(machine: Machine, arrivals: Sequence[float], rows: int) -> list[float]:
    """Return the latencies, seconds, with whole batches."""
    latencies, now, first = [], 0.0, 0
    while first < len(arrivals):
        now = max(now, arrivals[first])
        last = first
        while last < len(arrivals) and last - first < rows and arrivals[last] <= now:
            last += 1
        now += machine.batch(last - first)
        latencies += [now - arrival for arrival in arrivals[first:last]]
        first = last
    return latencies


def continuous(machine: Machine, arrivals: Sequence[float], rows: int) -> list[float]:
    """Return the latencies, seconds, with rows that join and leave between steps."""
    latencies: list[float] = []
    waiting = deque(arrivals)
    running: list[tuple[float, int]] = []
    now = 0.0
    while waiting or running:
        if not running:
            now = max(now, waiting[0])
        joining = []
        while waiting and waiting[0] <= now and len(running) + len(joining) < rows:
            joining.append((waiting.popleft(), 0))
        now += machine.text(len(joining))
        running += joining
        now += machine.step(len(running))
        running = [(arrival, done + 1) for arrival, done in running]
        finished = [arrival for arrival, done in running if done == STEPS]
        running = [(arrival, done) for arrival, done in running if done < STEPS]
        now += machine.decode(len(finished))
        latencies += [now - arrival for arrival in finished]
    return latencies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16, help="most rows at once")
    rows = parser.parse_args().rows
    for machine in MACHINES:
        capacity = machine.capacity(rows)
        print(f"\n{machine.name} (full batches: {capacity:.1f} requests/s)\n")
        print("| load | whole: mean, p95 ms | one at a time | continuous: mean, p95 ms |")
        print("| --- | --- | --- | --- |")
        for load in LOADS:
            random.seed(1)
            now, arrivals = 0.0, []
            for _ in range(REQUESTS):
                now += random.expovariate(load * capacity)
                arrivals.append(now)
            cells = [
                _cell(policy, now)
                for policy in (
                    whole(machine, arrivals, rows),
                    whole(machine, arrivals, 1),
                    continuous(machine, arrivals, rows),
                )
            ]
            print(f"| {load:.0%} | {' | '.join(cells)} |")


def _cell(latencies: list[float], span: float) -> str:
    if max(latencies) > span / 10:
        return "falls behind"
    p95 = statistics.quantiles(latencies, n=20)[-1]
    return f"{statistics.mean(latencies) * 1000:.0f}, {p95 * 1000:.0f}"


if __name__ == "__main__":
    main()
