"""The simulator that the defaults were chosen with: a short trace through both policies."""

import numpy as np
import pytest

from bench.simulate import CPU, PEAK, POLICIES, scaled, trace_for
from bench.simulation.replay import Outcome
from bench.simulation.traces import TRACES, Trace

REPLICAS = 6
HOURS = 1.0


@pytest.fixture(scope="module")
def burst() -> tuple[Trace, dict[str, Outcome]]:
    trace = trace_for(CPU, REPLICAS, HOURS, "burst")
    return trace, {policy: scaled(CPU, REPLICAS, trace, policy) for policy in POLICIES}


@pytest.mark.parametrize("policy", POLICIES)
def test_all_of_a_burst_is_served_and_then_nothing_is_kept(
    burst: tuple[Trace, dict[str, Outcome]], policy: str
) -> None:
    trace, outcomes = burst
    outcome = outcomes[policy]

    assert len(outcome.waits) == len(trace.arrivals) > 10
    assert (outcome.waits >= 0).all()
    assert (outcome.latencies > outcome.waits).all()
    assert outcome.waits.max() >= CPU.start_seconds, "the first request waits for a replica"
    assert 2 <= max(outcome.replicas) <= REPLICAS
    assert 0 < outcome.work_hours <= outcome.replica_hours

    quiet = np.array(outcome.times) > 0.95 * trace.seconds
    assert not np.array(outcome.replicas)[quiet].any()


def test_a_steady_load_does_not_make_the_backlog_policy_oscillate() -> None:
    outcome = scaled(CPU, 40, trace_for(CPU, 40, 1.5, "steady"), "backlog")
    settled = np.array(outcome.replicas)[np.array(outcome.times) > 2700]

    assert settled.max() < 1.5 * settled.mean()
    assert settled.min() > settled.mean() / 1.5


def test_traces_and_replays_are_the_same_every_time() -> None:
    assert set(PEAK) == set(TRACES)

    one, other = (
        scaled(CPU, 3, trace_for(CPU, 3, 0.5, "heavy-tailed"), "backlog") for _ in range(2)
    )

    assert np.array_equal(one.waits, other.waits)
    assert one.replicas == other.replicas
