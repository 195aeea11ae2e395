"""CPU time of this process by wall time, which an ingress replica reports to the autoscaler."""

import time
from collections.abc import Callable
from typing import Final

from sa_ray.scheduling.autoscaling_policy import CPU_SHARE

LEAST_S: Final = 1.0
"""Shortest time to report on, seconds: Serve asks for the first time when hardly any has passed."""


class CpuShare:
    """Measures the cores that this process uses, all its threads together.

    ``spent`` returns its seconds of CPU so far, ``clock`` monotonic seconds.
    """

    def __init__(
        self,
        spent: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spent = spent
        self._clock = clock
        self._reported_at = clock()
        self._spent_reported = spent()

    def report(self) -> dict[str, float]:
        """Return the metric that ``CpuPolicy`` reads: cores used since the last report.

        Between 0 and the number of cores. Nothing within ``LEAST_S`` of the last report.
        """
        now = self._clock()
        elapsed = now - self._reported_at
        if elapsed < LEAST_S:
            return {}
        spent = self._spent()
        share = (spent - self._spent_reported) / elapsed
        self._reported_at, self._spent_reported = now, spent
        return {CPU_SHARE: share}
