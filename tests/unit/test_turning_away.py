"""Which requests a replica turns away, for another to do sooner."""

import time

import pytest

from sa_ray.contracts import ResolvedRequest
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.replica_load import Workload
from sa_ray.serving.variant.turning_away import LONG_WAIT_S, busy_until
from tests.support.clock import Clock

COST = Cost(batch=0.03, row=0, second=0.01, sampling=0, guidance=1)
"""A full batch of four clips of 5 s takes 0.23 s."""


class Replica:
    """A replica with ``work`` in it."""

    def __init__(self, *work: ResolvedRequest) -> None:
        self.clock = Clock()
        self.workload = Workload(Estimator(COST, 4, 1200), target_wait=10, clock=self.clock)
        if work:
            self.workload.started(work, crowded=False)

    def offered(self, request: ResolvedRequest, *waiting: ResolvedRequest) -> float | None:
        return busy_until(request, self.workload, waiting)


def clip(duration: float = 5, n: int = 1) -> ResolvedRequest:
    return ResolvedRequest(
        model="medium", prompt="rain", duration=duration, steps=8, cfg_scale=1, seed=0, n=n
    )


def test_what_would_wait_for_a_long_clip_is_told_until_when() -> None:
    replica = Replica(clip(300))

    until = replica.offered(clip().offered({}))

    assert until == pytest.approx(time.time() + 3.03, abs=1)


def test_the_wait_gets_shorter_as_the_long_clip_is_made() -> None:
    replica = Replica(clip(300))

    replica.clock.now = 3.0

    assert replica.offered(clip().offered({})) is None


def test_an_idle_replica_turns_nothing_away() -> None:
    assert Replica().offered(clip(300).offered({})) is None


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("duration", [2, 5, 30, 300])
def test_as_much_work_of_its_own_kind_as_a_busy_replica_has_is_no_long_wait(
    duration: float, n: int
) -> None:
    one = clip(duration)
    replica = Replica(*[one] * 4)

    waits = replica.offered(clip(duration, n).offered({}), *[one] * 3)

    assert waits is None


@pytest.mark.parametrize("n", [1, 4])
def test_long_is_long_however_many_clips_are_wanted(n: int) -> None:
    """Twice a full batch of its clips is 0.46 s, which is less than is ever long."""
    assert Replica(clip(100 * LONG_WAIT_S)).offered(clip(n=n).offered({}))


@pytest.mark.parametrize("busy", [None, {"another": 1.0}])
def test_what_may_not_be_turned_away_waits(busy: dict[str, float] | None) -> None:
    """Its sender would not send it again, or it has been turned away before."""
    request = clip() if busy is None else clip().offered(busy)

    assert Replica(clip(300)).offered(request) is None
