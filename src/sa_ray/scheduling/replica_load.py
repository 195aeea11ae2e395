"""Load that a replica reports to the autoscaler: its seconds of work, by cost and experience."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from sa_ray.contracts import Lora, ResolvedRequest
from sa_ray.scheduling.autoscaling_policy import BUSY, PENDING_SECONDS, REQUEST_SECONDS
from sa_ray.scheduling.estimator import Estimator, moved


class Workload:
    """Follows the batches of one replica. ``clock`` returns monotonic seconds.

    The scale of the estimates follows measured batch times, so it includes a machine's speed, its
    load and its neighbours on the GPU.
    """

    def __init__(
        self,
        estimator: Estimator,
        target_wait: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.estimator = estimator
        self._target_wait = target_wait
        self._clock = clock
        self._request_seconds: float | None = None
        self._running: Sequence[ResolvedRequest] = ()
        self._running_since = 0.0
        self._whole = 0.0
        self._change = 0.0
        self.loras: tuple[Lora, ...] = ()
        """Adapters of the last batch that has started."""
        self._crowded = False
        self._done_seconds = 0.0
        self._reported_at = clock()
        self._done_reported = 0.0

    @property
    def scale(self) -> float | None:
        """Measured over estimated time of batches; None before the first one."""
        return None if self._request_seconds is None else self.estimator.scale

    def started(self, batch: Sequence[ResolvedRequest], *, crowded: bool) -> None:
        """Note that ``batch`` has started. ``crowded``: others wait that could not join it."""
        self._running = batch
        self._crowded = crowded
        self._running_since = self._clock()
        self._change = self.estimator.change(self.loras, batch[0].loras)
        self._whole = self._change + self.estimator.batch(batch)
        self.loras = batch[0].loras

    def progressed(self, fraction: float) -> None:
        """Note that a fraction in [0, 1] of the running batch's sampling is done.

        Call it after steps. The time after the last step goes by the estimate.
        """
        if 0 < fraction < 1:
            self._whole = (self._clock() - self._running_since) / fraction
        else:
            self._whole = max(self._whole, self.estimator.batch(self._running))

    def finished(self, *, learn: bool) -> None:
        """Note that the running batch has ended. ``learn``: all its rows ran to the end."""
        batch, self._running = self._running, ()
        if learn:
            self._learn(batch, self._clock() - self._running_since)

    def _learn(self, batch: Sequence[ResolvedRequest], seconds: float) -> None:
        estimator = self.estimator
        fill = estimator.fill
        if self._crowded:
            in_full_batches = self._shares(batch) / fill
            fill = moved(fill, max(1.0, estimator.batch(batch) / in_full_batches))
        self.estimator = replace(estimator.corrected(batch, seconds, self._change), fill=fill)
        self._done_seconds += self._shares(batch)
        counted = self._counted(batch) / len(batch)
        self._request_seconds = moved(self._request_seconds or counted, counted)

    def seconds_left(self, waiting: Sequence[ResolvedRequest]) -> float:
        """Seconds until the replica is idle; ``waiting``: requests not in the engine yet."""
        running = 0.0
        if self._running:
            running = max(0.0, self._whole - (self._clock() - self._running_since))
        return running + self._shares(waiting)

    def report(self, waiting: Sequence[ResolvedRequest]) -> dict[str, float]:
        """Return the metrics for the autoscaler; ``waiting``: requests not in the engine yet.

        Requests count their cost in batches formed under load, even while few requests make smaller
        batches: a replica that is busy with small batches has room left.
        """
        now = self._clock()
        done = 0.0
        if self._running:
            took = now - self._running_since
            done = min(1.0, took / self.estimator.batch(self._running))
        running = self._shares(self._running)
        done_seconds = self._done_seconds + done * running
        elapsed = max(now - self._reported_at, 1e-9)
        busy = max(0.0, done_seconds - self._done_reported) / elapsed
        self._reported_at, self._done_reported = now, done_seconds
        left = min((1 - done) * running, self._target_wait)
        metrics = {
            PENDING_SECONDS: left + self._counted(waiting),
            BUSY: min(busy, 1.0),
        }
        if self._request_seconds is not None:
            metrics[REQUEST_SECONDS] = self._request_seconds
        return metrics

    def _shares(self, requests: Sequence[ResolvedRequest]) -> float:
        return sum(map(self.estimator.share, requests))

    def _counted(self, requests: Sequence[ResolvedRequest]) -> float:
        return self.estimator.work(requests, self._target_wait)
