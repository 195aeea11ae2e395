"""Serve's autoscaler on simulated time: its own delays and bounds, and either policy."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.serve import autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from bench.simulation.replicas import Fleet
from sa_ray.scheduling.autoscaling_policy import QUEUE_SECONDS

PUSH_S = 10.0
"""Seconds between two reports of a handle or a replica, Serve's default."""

Policy = Callable[[AutoscalingContext], tuple[float, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Sample:
    value: float


class Autoscaler:
    """Reads the fleet as Serve would: its state at the last push, not its present one."""

    def __init__(self, fleet: Fleet, policy: Policy, config: AutoscalingConfig) -> None:
        self._fleet = fleet
        self._config = config
        # Serve's own wrapper adds start from zero, delays, factors. It reads the time by itself.
        autoscaling_policy.time = SimpleNamespace(time=lambda: fleet.now)
        self._policy = autoscaling_policy._apply_autoscaling_config(policy)  # noqa: SLF001
        self._state: dict[str, Any] = {}
        self._window: deque[tuple[float, float, float]] = deque()
        self._pushed: list[tuple[float, float, float]] = []
        self._metrics: dict[str, dict[int, list[Sample]]] = {}
        self.sample_s = min(config.look_back_period_s * 0.2, PUSH_S)

    def sample(self) -> None:
        """Note, as a handle does, the ongoing requests and those of them that no replica has."""
        fleet = self._fleet
        self._window.append((fleet.now, float(fleet.ongoing), float(len(fleet.handle))))
        while self._window[0][0] < fleet.now - self._config.look_back_period_s:
            self._window.popleft()

    def push(self) -> None:
        self._pushed = list(self._window)
        metrics: dict[str, dict[int, list[Sample]]] = {}
        running = self._fleet.running
        for replica in running:
            report = replica.workload.report([request.body for request in replica.waiting])
            for name, value in report.items():
                metrics.setdefault(name, {})[replica.number] = [Sample(value)]
        if running:
            queued = Sample(self._fleet.durable_seconds)
            metrics[QUEUE_SECONDS] = {running[0].number: [queued]}
        self._metrics = metrics

    def decide(self) -> None:
        fleet, config = self._fleet, self._config
        running = len(fleet.running)
        if running == 0 and fleet.handle:
            self._pushed = [(fleet.now, float(fleet.ongoing), float(len(fleet.handle)))]
        context = AutoscalingContext(
            deployment_id=None,  # type: ignore[arg-type]
            deployment_name="variant",
            app_name="sa-ray",
            current_num_replicas=running,
            target_num_replicas=fleet.target,
            running_replicas=[],
            total_num_requests=self._mean(1),
            total_queued_requests=self._mean(2),
            aggregated_metrics={},
            raw_metrics=self._metrics,  # type: ignore[arg-type]
            capacity_adjusted_min_replicas=config.min_replicas,
            capacity_adjusted_max_replicas=config.max_replicas,
            policy_state=dict(self._state),
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=fleet.now,
            config=config,
        )
        number, self._state = self._policy(context)
        bounded = max(config.min_replicas, min(config.max_replicas, int(-(-number // 1))))
        if bounded != fleet.target:
            fleet.scale_to(bounded)

    def _mean(self, column: int) -> float:
        """Return the time-weighted mean over the pushed window; its last value holds until now."""
        if not self._pushed:
            return 0.0
        ends = [*(sample[0] for sample in self._pushed[1:]), self._fleet.now]
        total = sum(
            sample[column] * (end - sample[0])
            for sample, end in zip(self._pushed, ends, strict=True)
        )
        span = self._fleet.now - self._pushed[0][0]
        return total / span if span > 0 else self._pushed[-1][column]
