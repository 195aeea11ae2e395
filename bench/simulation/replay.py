"""Replay a trace: arrivals, replicas and the autoscaler on one clock."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from ray.serve.config import AutoscalingConfig

from bench.simulation.autoscaler import PUSH_S, Autoscaler, Policy
from bench.simulation.replicas import Fleet, Machine, Request
from bench.simulation.traces import Floats, Trace
from sa_ray.contracts import ResolvedRequest

TICK_S = 2.0
"""Seconds between two decisions of the autoscaler. Serve decides ten times a second, on equally old
metrics."""

GIVE_UP_S = 100_000.0
"""Simulated seconds after the last arrival by which all work has to be done."""


@dataclass
class Outcome:
    waits: Floats
    """Seconds from a request's arrival to the start of its batch, in order of arrival."""
    latencies: Floats
    """Seconds from a request's arrival to the end of its batch."""
    replica_hours: float
    """Until the trace is over and the last request is done."""
    work_hours: float
    """Hours that replicas worked: the least that could be paid for."""
    changes: int
    """Number of changes of the number of replicas."""
    times: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    backlog: list[int] = field(default_factory=list)


def replay(
    trace: Trace,
    machine: Machine,
    policy: Policy,
    config: AutoscalingConfig,
    *,
    handles: int | None = 1,
    target_wait: float = 1.0,
    seed: int = 0,
) -> Outcome:
    """Serve ``trace`` with replicas like ``machine``; ``policy`` and Serve decide how many."""
    fleet = Fleet(machine, config.max_replicas, np.random.default_rng(seed), handles, target_wait)
    scaler = Autoscaler(fleet, policy, config)
    fleet.scale_to(config.min_replicas)
    requests = [
        Request(float(arrival), clip(float(duration)))
        for arrival, duration in zip(trace.arrivals, trace.durations, strict=True)
    ]
    outcome = Outcome(np.zeros(0), np.zeros(0), 0.0, 0.0, 0)
    arrivals = iter(requests)
    upcoming = next(arrivals, None)
    tick, sample, push, target = 0.0, 0.0, PUSH_S, fleet.target
    while fleet.now < trace.seconds or upcoming or fleet.ongoing or fleet.durable:
        at_arrival = upcoming.arrival if upcoming else float("inf")
        due = min(at_arrival, fleet.next_event, tick, sample, push)
        if due == fleet.next_event:
            fleet.happen()
            continue
        fleet.now = due
        if upcoming and due == at_arrival:
            fleet.submit(upcoming)
            upcoming = next(arrivals, None)
        elif due == sample:
            scaler.sample()
            sample += scaler.sample_s
        elif due == push:
            scaler.push()
            push += PUSH_S
        else:
            scaler.decide()
            tick += TICK_S
            outcome.changes += fleet.target != target
            target = fleet.target
            outcome.times.append(fleet.now)
            outcome.replicas.append(len(fleet.replicas))
            outcome.backlog.append(len(fleet.durable) + fleet.ongoing)
        if fleet.now > trace.seconds + GIVE_UP_S:
            raise RuntimeError("the replicas never finish")
    fleet.close()
    outcome.latencies = np.array([request.done - request.arrival for request in requests])
    outcome.waits = np.array([request.started - request.arrival for request in requests])
    outcome.replica_hours = fleet.replica_seconds / 3600
    outcome.work_hours = fleet.work_seconds / 3600
    return outcome


@cache
def clip(duration: float) -> ResolvedRequest:
    return ResolvedRequest(
        model="small-sfx", prompt="", duration=duration, steps=8, cfg_scale=1, seed=0
    )
