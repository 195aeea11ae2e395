"""How many replicas a variant needs, by the seconds of work that wait for it.

Runs in Serve's controller, ten times a second. Serve ships this module by value, so that the
controller need not have the package: it imports nothing but the standard library.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

logger = logging.getLogger("ray.serve")

PENDING_SECONDS: Final = "pending_seconds"
"""Metric of a replica: the work it has accepted and not finished, seconds, each request at most the
target wait."""

BUSY: Final = "busy"
"""Metric of a replica: seconds of work done for each second since its last report. Requests count
as in the batches that a crowd makes: a replica with smaller ones has room, and is less busy."""

REQUEST_SECONDS: Final = "request_seconds"
"""Metric of a replica: what a request costs on average, seconds, at most the target wait."""

QUEUE_SECONDS: Final = "queue_seconds"
"""Metric of one replica of a variant: the work that waits in the durable queue, seconds, each
request at most the target wait."""

MAX_BUSY: Final = 0.9
"""Replicas are not given up if the others would then be busier than this."""

PEAK_S: Final = 20.0
"""Replicas are given up by the most that was wanted in the last one or two times this, seconds."""

_PEAK: Final = "peak"
_PEAK_BEFORE: Final = "peak_before"
_SINCE: Final = "since"


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of the work for one variant. Seconds are seconds of one replica."""

    seconds: float
    """Work accepted and not finished, in replicas, in handles and in the durable queue. A request
    counts at most the target wait: one that takes longer keeps one replica from all others for
    all of that time, and no more than one."""
    busy: float
    """Replicas' worth of work done of late."""


def desired_replicas(load: Load, replicas: int, target_wait: float) -> int:
    """Replicas that can start all of ``load`` within ``target_wait`` seconds. Of ``replicas``, the
    present number, as many stay as the recent load keeps busy, even when nothing waits."""
    needed = math.ceil(load.seconds / target_wait)
    return max(needed, min(replicas, math.ceil(load.busy / MAX_BUSY)))


class Sample(Protocol):
    """One value of a metric, as Serve keeps it."""

    @property
    def value(self) -> float: ...


Metric = Mapping[Any, Sequence[Sample]]
"""A metric's values within the look-back period, oldest first, by replica."""


class Context(Protocol):
    """What the policy reads of Serve's ``AutoscalingContext``."""

    @property
    def target_num_replicas(self) -> int: ...
    @property
    def current_time(self) -> float: ...
    @property
    def total_num_requests(self) -> float: ...
    @property
    def total_queued_requests(self) -> float: ...
    @property
    def raw_metrics(self) -> Mapping[str, Metric] | None: ...
    @property
    def policy_state(self) -> dict[str, Any]: ...


class BacklogPolicy:
    """A custom autoscaling policy for Serve, which adds bounds, delays and the start from zero.

    ``target_wait``: seconds that a request should wait at most. ``request_seconds``: what a
    request costs, until replicas report it.
    """

    def __init__(self, target_wait: float, request_seconds: float) -> None:
        self._target_wait = target_wait
        self._request_seconds = min(request_seconds, target_wait)

    def __call__(self, context: Context) -> tuple[int, dict[str, Any]]:
        present = context.target_num_replicas
        try:
            load = read_load(context, self._request_seconds)
            desired = desired_replicas(load, present, self._target_wait)
        except Exception:  # the controller serves every application
            logger.exception("The backlog policy failed; the number of replicas stays.")
            return present, {}
        # Serve waits for the downscale delay, then applies the number of that moment, which may
        # be a lull: it is told of the largest of late. More is applied as soon as it is wanted.
        peaks = _noted(context.policy_state, desired, context.current_time)
        return max(desired, min(present, max(peaks[_PEAK], peaks[_PEAK_BEFORE]))), peaks


def _noted(state: Mapping[str, Any], desired: int, now: float) -> dict[str, Any]:
    """The largest numbers of the present ``PEAK_S`` seconds and of those before."""
    since, age = state.get(_SINCE, now), now - state.get(_SINCE, now)
    if age < PEAK_S:
        return {
            _SINCE: since,
            _PEAK: max(desired, state.get(_PEAK, 0)),
            _PEAK_BEFORE: state.get(_PEAK_BEFORE, 0),
        }
    before = state[_PEAK] if age < 2 * PEAK_S else 0
    return {_SINCE: now, _PEAK: desired, _PEAK_BEFORE: before}


def read_load(context: Context, request_seconds: float) -> Load:
    """The load as replicas reported it last; without reports, the requests that Serve counts,
    each at ``request_seconds``."""
    metrics = context.raw_metrics or {}
    pending = _latest(metrics, PENDING_SECONDS)
    if not pending:
        return Load(context.total_num_requests * request_seconds, 0.0)
    costs = _latest(metrics, REQUEST_SECONDS)
    if costs:
        request_seconds = sum(costs) / len(costs)
    in_handles = context.total_queued_requests * request_seconds
    in_queue = max(_latest(metrics, QUEUE_SECONDS), default=0.0)
    busy = sum(
        sum(sample.value for sample in samples) / len(samples)
        for samples in metrics.get(BUSY, {}).values()
        if samples
    )
    return Load(sum(pending) + in_handles + in_queue, busy)


def _latest(metrics: Mapping[str, Metric], name: str) -> list[float]:
    return [samples[-1].value for samples in metrics.get(name, {}).values() if samples]
