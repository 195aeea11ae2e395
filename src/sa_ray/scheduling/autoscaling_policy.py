"""Autoscaling policies: replicas of a variant for the work that waits, of the ingress for its CPU.

They run in Serve's controller, ten times a second. Serve ships this module by value, so the
controller need not have the package: import nothing but the standard library here.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

logger = logging.getLogger("ray.serve")

PENDING_SECONDS: Final = "pending_seconds"
"""Metric of a replica: work that it has accepted and not finished, seconds. Each request counts at
most the target wait."""

BUSY: Final = "busy"
"""Metric of a replica, 0 to 1: seconds of work done per second since its last report. A request
counts its cost in batches formed under load, so a replica with smaller batches has room and reads
less busy."""

REQUEST_SECONDS: Final = "request_seconds"
"""Metric of a replica: average cost of a request, seconds, at most the target wait."""

QUEUE_SECONDS: Final = "queue_seconds"
"""Metric of one replica of a variant: work that waits in the durable queue, seconds. Each request
counts at most the target wait."""

CPU_SHARE: Final = "cpu_share"
"""Metric of an ingress replica: cores that its process has used since its last report. Above 1
where threads beside the event loop, as those of Ray's core, run on other cores meanwhile."""

MAX_BUSY: Final = 0.9
"""Scale down only to as many replicas as stay at or below this ``BUSY``."""

PEAK_S: Final = 20.0
"""Scale down only to the peak of the last ``PEAK_S`` to 2 x ``PEAK_S`` seconds."""

_PEAK: Final = "peak"
_PEAK_BEFORE: Final = "peak_before"
_SINCE: Final = "since"


@dataclass(frozen=True, slots=True)
class Load:
    """Work known for one variant, in seconds of one replica."""

    seconds: float
    """Work accepted and not finished: in replicas, in handles and in the durable queue. A request
    counts at most the target wait. A longer one keeps one replica busy for all of that time, and no
    more than one."""
    busy: float
    """Recent work, in replicas: the sum of their ``BUSY``, averaged over the look-back period."""


def desired_replicas(load: Load, replicas: int, target_wait: float) -> int:
    """Return the replicas that can start all of ``load`` within ``target_wait`` seconds.

    Of ``replicas``, the present number, as many stay as the recent load keeps busy, even when
    nothing waits.
    """
    needed = math.ceil(load.seconds / target_wait)
    return max(needed, min(replicas, math.ceil(load.busy / MAX_BUSY)))


class Sample(Protocol):
    """One value of a metric, as Serve keeps it."""

    @property
    def value(self) -> float: ...


Metric = Mapping[Any, Sequence[Sample]]
"""A metric's values within the look-back period, oldest first, by replica."""


class Context(Protocol):
    """Fields of Serve's ``AutoscalingContext`` that the policy reads."""

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
    """Custom autoscaling policy for Serve: replicas for the seconds of work that wait.

    Serve itself adds bounds, delays and the start from zero. ``target_wait``: longest that a
    request should wait, seconds. ``request_seconds``: cost of a request, seconds, until replicas
    report it.
    """

    def __init__(self, target_wait: float, request_seconds: float) -> None:
        self._target_wait = target_wait
        self._request_seconds = min(request_seconds, target_wait)

    def __call__(self, context: Context) -> tuple[int, dict[str, Any]]:
        return _decided(context, self._desired)

    def _desired(self, context: Context) -> int:
        load = read_load(context, self._request_seconds)
        return desired_replicas(load, context.target_num_replicas, self._target_wait)


class CpuPolicy:
    """Custom autoscaling policy for Serve: replicas for the CPU time that they use.

    As many as would use ``target_share`` of a core each, if they shared out evenly what all have
    last reported: averages would count work that a new one has taken over for longer. Serve itself
    adds bounds and delays.
    """

    def __init__(self, target_share: float) -> None:
        self._target_share = target_share

    def __call__(self, context: Context) -> tuple[int, dict[str, Any]]:
        return _decided(context, self._desired)

    def _desired(self, context: Context) -> int:
        shares = _latest(context.raw_metrics or {}, CPU_SHARE)
        if not shares:  # nothing is known yet
            return context.target_num_replicas
        return math.ceil(sum(shares) / self._target_share)


def _decided(context: Context, desire: Callable[[Context], int]) -> tuple[int, dict[str, Any]]:
    """Return what Serve is to be told, and the policy's state.

    Serve waits for the downscale delay, then applies the number of that moment, which may be a
    lull. So it is told the recent peak; a higher number it applies at once.
    """
    present = context.target_num_replicas
    try:
        desired = desire(context)
    except Exception:  # the controller serves every application
        logger.exception("An autoscaling policy failed; the number of replicas stays.")
        return present, {}
    peaks = _noted(context.policy_state, desired, context.current_time)
    return max(desired, min(present, max(peaks[_PEAK], peaks[_PEAK_BEFORE]))), peaks


def _noted(state: Mapping[str, Any], desired: int, now: float) -> dict[str, Any]:
    """Add ``desired`` to the peaks of the present ``PEAK_S`` seconds and of those before."""
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
    """Return the load that replicas last reported.

    Without reports, the requests that Serve counts, each at ``request_seconds``.
    """
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
