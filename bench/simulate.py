"""Simulate autoscaling and routing with either policy and either router.

Arrival traces are replayed on simulated time through both autoscaling policies, wrapped in Serve's
own delays, and through both routers, with the code and the settings of production. No Ray cluster
is started.

    python -m bench.simulate            # prints tables, draws bench/results/simulate-*.png
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingConfig

from bench.simulation import plots
from bench.simulation.autoscaler import Policy
from bench.simulation.replay import Outcome, clip, replay
from bench.simulation.replicas import Machine
from bench.simulation.traces import TRACES, Durations, Floats, Trace, make, mostly_short
from sa_ray.catalogue import CATALOGUE
from sa_ray.scheduling.autoscaling_policy import BacklogPolicy
from sa_ray.scheduling.costs import cost_of
from sa_ray.serving.deployment_options import autoscaling_config
from sa_ray.settings import Autoscaling

RESULTS = Path(__file__).parent / "results"
SEED = 20261124
POLICIES: tuple[Autoscaling, ...] = ("requests", "backlog")

CPU = Machine(
    "small-sfx on a CPU",
    cost_of("small-sfx", "stable-audio-3", gpu=False),
    max_rows=1,
    max_seconds=480,
    start_seconds=30,
)
GPU = Machine(
    "small-sfx on a GPU",
    cost_of("small-sfx", "stable-audio-3", gpu=True),
    max_rows=8,
    max_seconds=480,
    start_seconds=30,
)
MEDIUM = Machine(
    "medium on a GPU",
    cost_of("medium", "stable-audio-3", gpu=True),
    max_rows=4,
    max_seconds=760,
    start_seconds=30,
)

SCALES = ((CPU, 1, 12.0), (CPU, 10, 6.0), (CPU, 100, 2.0), (CPU, 1000, 0.5), (GPU, 4, 0.25))
"""Machine, most replicas, hours of the trace."""

PEAK = {"steady": 0.5, "diurnal": 0.9, "burst": 0.6, "heavy-tailed": 0.5}
"""Highest load of each trace, as a share of what the most replicas do."""

FULLNESS = 0.5
"""Fullness of batches, where there are any: lengths vary too much for more."""

WAITS = (5.0, 30.0, 60.0, 120.0)


def trace_for(machine: Machine, replicas: int, hours: float, name: str) -> Trace:
    def rate(durations: Floats) -> float:
        shares = [machine.estimator.share(clip(float(duration))) for duration in durations]
        full = FULLNESS if machine.max_rows > 1 else 1.0
        return full * PEAK[name] * replicas / float(np.mean(shares))

    return make(name, hours * 3600, SEED, rate)


def scaled(
    machine: Machine,
    replicas: int,
    trace: Trace,
    policy: Autoscaling,
    target_wait: float | None = None,
    **changes: float,
) -> Outcome:
    spec = CATALOGUE["small-sfx"].model_copy(
        update={"max_replicas": replicas, "max_batch_rows": machine.max_rows}
        | ({"target_wait": target_wait} if target_wait else {})
    )
    config = autoscaling_config(policy, spec, machine.cost, min_replicas=0) | changes
    decide: Policy = replica_queue_length_autoscaling_policy
    if policy == "backlog":
        decide = BacklogPolicy(**config["policy"]["policy_kwargs"])
    return replay(
        trace, machine, decide, AutoscalingConfig(**config), target_wait=spec.target_wait, seed=SEED
    )


def policies() -> Iterator[str]:
    yield "| machine, most replicas | trace | requests | policy | wait p50, p95 s "
    yield "| replica hours | of them at work | changes |\n"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    ratios: dict[str, list[tuple[str, float, float]]] = {}
    for machine, replicas, hours in SCALES:
        shown: dict[str, dict[str, Outcome]] = {}
        for name in TRACES:
            trace = trace_for(machine, replicas, hours, name)
            outcomes = {policy: scaled(machine, replicas, trace, policy) for policy in POLICIES}
            shown[name] = outcomes
            for policy, outcome in outcomes.items():
                p50, p95 = np.quantile(outcome.waits, [0.5, 0.95])
                yield f"| {machine.name}, {replicas} | {name} | {len(trace.arrivals)} | {policy} "
                yield f"| {p50:.1f}, {p95:.1f} | {outcome.replica_hours:.1f} "
                yield f"| {outcome.work_hours:.1f} | {outcome.changes} |\n"
            ratios.setdefault(name, []).append(
                (f"{machine.name}, {replicas}", *_ratio(outcomes["requests"], outcomes["backlog"]))
            )
        if replicas == 100:
            plots.replicas_over_time(shown, RESULTS / "simulate-replicas.png")
    plots.ratios(ratios, RESULTS / "simulate-ratios.png")


def _ratio(requests: Outcome, backlog: Outcome) -> tuple[float, float]:
    """Replica hours and p95 of waits with the backlog policy, over those with request counts."""
    p95 = [max(1.0, float(np.quantile(one.waits, 0.95))) for one in (backlog, requests)]
    return backlog.replica_hours / requests.replica_hours, p95[0] / p95[1]


def target_waits() -> Iterator[str]:
    yield "| target wait s | wait p50, p95 s | replica hours |\n| --- | --- | --- |\n"
    trace = trace_for(CPU, 100, 2.0, "diurnal")
    for wait in WAITS:
        outcome = scaled(CPU, 100, trace, "backlog", wait)
        p50, p95 = np.quantile(outcome.waits, [0.5, 0.95])
        yield f"| {wait:g} | {p50:.1f}, {p95:.1f} | {outcome.replica_hours:.0f} |\n"


def downscale_delays() -> Iterator[str]:
    yield "| trace | downscale delay s | wait p50, p95 s | replica hours | changes |\n"
    yield "| --- | --- | --- | --- | --- |\n"
    for name in ("diurnal", "burst"):
        trace = trace_for(CPU, 30, 3.0, name)
        for delay in (60.0, 300.0, 900.0):
            outcome = scaled(CPU, 30, trace, "backlog", downscale_delay_s=delay)
            p50, p95 = np.quantile(outcome.waits, [0.5, 0.95])
            yield f"| {name} | {delay:g} | {p50:.1f}, {p95:.1f} | {outcome.replica_hours:.1f} "
            yield f"| {outcome.changes} |\n"


def few_long(rng: np.random.Generator, count: int) -> Floats:
    durations: Floats = rng.choice([5.0, 300.0], count, p=[0.95, 0.05])
    return durations


ROUTED: tuple[tuple[Machine, Durations, str, float], ...] = (
    (CPU, few_long, "1 in 20 of 300 s, else 5 s", 20.0),
    (MEDIUM, few_long, "1 in 20 of 300 s, else 5 s", 0.2),
    (GPU, mostly_short, "5, 10 and 30 s", 0.05),
)
"""Machine, distribution of lengths, its description, hours."""

ROUTERS: dict[str, int | None] = {
    "power of two": None,
    "earliest completion": 1,
    "the same, two handles": 2,
}


def routers() -> Iterator[str]:
    yield "| machine, 8 replicas | clips | load | router | the shortest: p50, p95 s "
    yield "| all others: p95 s |\n| --- | --- | --- | --- | --- | --- |\n"
    for started, durations, what, hours in ROUTED:
        machine = replace(started, start_seconds=0)
        shares = [machine.estimator.share(clip(float(d))) for d in durations(_rng(), 10_000)]
        for load in (0.5, 0.7):
            count = int(load * 8 / float(np.mean(shares)) * hours * 3600)
            arrivals = np.sort(_rng().random(count)) * hours * 3600
            trace = Trace(arrivals, durations(_rng(), count), hours * 3600)
            for router, handles in ROUTERS.items():
                outcome = replay(trace, machine, _eight, EIGHT, handles=handles, seed=SEED)
                shortest = trace.durations == trace.durations.min()
                p50, p95 = np.quantile(outcome.latencies[shortest], [0.5, 0.95])
                others = np.quantile(outcome.latencies[~shortest], 0.95)
                yield f"| {machine.name} | {what} | {load:.0%} | {router} "
                yield f"| {p50:.2f}, {p95:.2f} | {others:.2f} |\n"


EIGHT = AutoscalingConfig(min_replicas=8, max_replicas=8)
_eight: Policy = lambda context: (8, {})  # noqa: E731


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "policies": policies,
    "target-waits": target_waits,
    "downscale-delays": downscale_delays,
    "routers": routers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    for part in parser.parse_args().parts or PARTS:
        started = time.monotonic()
        table = "".join(PARTS[part]())
        print(f"{part}: {time.monotonic() - started:.0f} s\n\n{table}")


if __name__ == "__main__":
    main()
