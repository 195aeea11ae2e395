"""Replicas of the ingress by their CPU time: what they report, and what Serve makes of it."""

import math
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve import autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from sa_ray.errors import ConfigurationError
from sa_ray.scheduling.autoscaling_policy import CPU_SHARE, PEAK_S, CpuPolicy
from sa_ray.scheduling.cpu_share import LEAST_S, CpuShare
from sa_ray.serving.deployment_options import (
    DOWNSCALE_DELAY_S,
    INGRESS_SHARE,
    ingress_replicas,
)
from sa_ray.settings import load_settings
from tests.support.clock import Clock
from tests.support.serve_autoscaler import Context, Sample

PUSH_S = 10
"""Seconds between two reports of a replica, Serve's default."""


def reported(*replicas: Sequence[float]) -> dict[str, dict[str, list[Sample]]]:
    """Shares of each replica within the look-back period, the last one last."""
    return {
        CPU_SHARE: {
            f"replica-{number}": [Sample(share) for share in shares]
            for number, shares in enumerate(replicas)
        }
    }


@pytest.mark.parametrize(
    ("replicas", "wanted"),
    [
        ([[0.05]], 1),
        ([[0.6]], 1),
        ([[0.61]], 2),
        ([[1.1]], 2),
        ([[1.25]], 3),
        ([[1.2, 0.2]], 1),
        ([[0.2, 1.2]], 2),
        ([[0.5], [0.5]], 2),
        ([[0.3], [0.2]], 1),
        ([[0.9], []], 2),
    ],
)
def test_what_all_replicas_use_is_shared_out_by_the_target(
    replicas: list[list[float]], wanted: int
) -> None:
    desired, _ = CpuPolicy(0.6)(Context(raw_metrics=reported(*replicas)))

    assert desired == wanted


@pytest.mark.parametrize("metrics", [None, {}, {CPU_SHARE: {}}, reported([])])
def test_the_replicas_stay_until_one_has_reported(metrics: Any) -> None:
    desired, _ = CpuPolicy(0.6)(Context(target_num_replicas=3, raw_metrics=metrics))

    assert desired == 3


def test_a_failure_leaves_the_replicas_as_they_are() -> None:
    for broken in (reported([math.nan]), {CPU_SHARE: {"replica": [None]}}):
        assert CpuPolicy(0.6)(Context(target_num_replicas=3, raw_metrics=broken)) == (3, {})


def test_replicas_are_given_up_by_the_most_that_was_wanted_of_late() -> None:
    policy, state = CpuPolicy(0.5), dict[str, Any]()

    def wanted(at: float, share: float) -> int:
        nonlocal state
        context = Context(4, 4, at, raw_metrics=reported([share]), policy_state=state)
        desired, state = policy(context)
        return desired

    assert wanted(0, 1.5) == 3
    assert wanted(PEAK_S, 0.2) == 3
    assert wanted(2 * PEAK_S, 0.2) == 1
    assert wanted(2 * PEAK_S, 4.0) == 8, "more is wanted at once"


def test_a_share_is_of_the_time_since_the_last_report() -> None:
    clock, spent = Clock(), Clock(7.0)
    share = CpuShare(spent, clock)

    assert share.report() == {}, "hardly any time has passed"

    clock.now, spent.now = 4.0, 8.0
    assert share.report() == {CPU_SHARE: 0.25}
    clock.now += LEAST_S / 2
    assert share.report() == {}
    clock.now, spent.now = 6.0, 11.0
    assert share.report() == {CPU_SHARE: 1.5}, "more than one thread was at work"


def test_a_share_is_that_of_this_process() -> None:
    elapsed = Clock()
    share = CpuShare(clock=elapsed)

    sum(range(2_000_000))
    elapsed.now = 10.0

    assert share.report()[CPU_SHARE] > 0


def test_their_number_is_fixed_unless_a_most_is_set() -> None:
    assert ingress_replicas(load_settings({"ingress_replicas": 3}).limits) == {"num_replicas": 3}


def test_a_most_under_the_least_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="STABLE_AUDIO_MAX_INGRESS_REPLICAS is 2"):
        load_settings({"ingress_replicas": 3, "max_ingress_replicas": 2})


def config_of(least: int, most: int) -> AutoscalingConfig:
    limits = load_settings({"ingress_replicas": least, "max_ingress_replicas": most}).limits
    return AutoscalingConfig(**ingress_replicas(limits)["autoscaling_config"])


class Fleet:
    """Replicas that share a load evenly, scaled as Serve does it, second by second.

    Each starts in ``START_S``, notes its share as often as Serve asks, and reports what it has
    noted every ``PUSH_S``, at a second of its own.
    """

    START_S = 4
    SAMPLE_S = 3

    def __init__(self, config: AutoscalingConfig, phase: int) -> None:
        policy = config.policy
        assert isinstance(policy, AutoscalingPolicy)
        made = policy.get_policy()(**policy.policy_kwargs)
        self._decide = autoscaling_policy._apply_autoscaling_config(made)
        self._config = config
        self._phase = phase
        self._state: dict[str, Any] = {}
        self._noted: dict[int, list[tuple[int, float]]] = {}
        self._told: dict[int, list[Sample]] = {}
        self._born = {0: -100}
        self.numbers: list[int] = []
        """How many were wanted, by the second."""
        self.now = 0

    def run(self, seconds: int, load: Callable[[int], float]) -> None:
        """``load``: cores that the requests take at a second."""
        for _ in range(seconds):
            running = [one for one, born in self._born.items() if self.now >= born + self.START_S]
            for one in running:
                self._note(one, min(1.2, load(self.now) / len(running)) + 0.03)
            told = {one: samples for one, samples in self._told.items() if one in running}
            context = Context(
                len(self._born),
                len(running),
                self.now,
                raw_metrics={CPU_SHARE: told},
                policy_state=self._state,
                config=self._config,
            )
            wanted, self._state = self._decide(context)  # type: ignore[arg-type]
            self._scale_to(max(self._config.min_replicas, min(self._config.max_replicas, wanted)))
            self.numbers.append(len(self._born))
            self.now += 1

    def _note(self, one: int, share: float) -> None:
        age = self.now - self._born[one]
        noted = self._noted.setdefault(one, [])
        if age % self.SAMPLE_S == 0:
            noted.append((self.now, share))
        if (age + one * self._phase) % PUSH_S == 0:
            since = self.now - self._config.look_back_period_s
            self._told[one] = [Sample(share) for at, share in noted if at >= since]

    def _scale_to(self, number: int) -> None:
        while len(self._born) > number:
            self._born.popitem()
        while len(self._born) < number:
            self._born[max(self._born) + 1] = self.now

    @property
    def changes(self) -> list[int]:
        """Each number in turn."""
        return [
            number
            for before, number in zip([0, *self.numbers], self.numbers, strict=False)
            if number != before
        ]


@pytest.fixture(params=range(PUSH_S))
def fleet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Of one replica to four; whenever they report, one after the other."""
    made = Fleet(config_of(1, 4), request.param)
    # Serve's delays read the time by themselves.
    monkeypatch.setattr(autoscaling_policy, "time", SimpleNamespace(time=lambda: made.now))
    return made


def test_a_load_gets_the_replicas_it_needs_and_keeps_them_no_longer_than_it_lasts(
    fleet: Fleet,
) -> None:
    fleet.run(200, lambda _: 0.0)
    fleet.run(600, lambda _: 1.7 * INGRESS_SHARE)
    assert fleet.changes == [1, 2], "work that has moved to a new replica does not count twice"
    fleet.run(int(DOWNSCALE_DELAY_S) - 1, lambda _: 0.3)
    assert fleet.changes == [1, 2]
    fleet.run(100, lambda _: 0.3)
    assert fleet.changes == [1, 2, 1]


def test_bursts_keep_the_replicas_that_they_need(fleet: Fleet) -> None:
    fleet.run(3600, lambda second: 1.1 if second % 240 < 60 else 0.1)

    assert fleet.changes == [1, 2]


def test_replicas_that_are_full_are_doubled_until_there_are_enough(fleet: Fleet) -> None:
    fleet.run(300, lambda _: 2.2)

    assert fleet.changes[-1] == 4
    assert fleet.changes == sorted(fleet.changes)
