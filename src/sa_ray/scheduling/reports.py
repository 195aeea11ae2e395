"""Routing statistics that a replica reports to Serve and the router reads."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from sa_ray.contracts import Lora
from sa_ray.scheduling.costs import Calibration

BUSY_UNTIL: Final = "busy_until"
"""Routing statistic of a replica: Unix time at which all its work will be done."""

SCALE: Final = "scale"
"""Routing statistic of a replica: measured over estimated time of its batches."""

SLOWDOWN: Final = "slowdown"
"""Routing statistic of a replica: why its engine is slower than it should be."""

CALIBRATION: Final = "calibration"
"""Routing statistic of a replica: its ``Calibration``, where it differs from what was assumed when
the application was built."""

LORAS: Final = "loras"
"""Routing statistic of a replica: the adapters in its weights, where there are any."""

MIN_BUSY_S: Final = 1.0
"""Shortest work worth a report, seconds: less is over when the report arrives."""

_LORAS: Final = TypeAdapter(tuple[Lora, ...])

SCALE_RATIO: Final = 1.25
"""Ratio between neighbouring values of the scale that a replica reports."""


def routing_report(
    seconds_left: float,
    scale: float | None,
    *,
    slowdown: str | None = None,
    calibration: Calibration | None = None,
    loras: Sequence[Lora] = (),
) -> dict[str, Any]:
    """Return the report of a replica with ``seconds_left`` of work.

    ``scale`` is None before the replica's first batch. Serve tells every handle of every change, so
    both numbers are rounded: the time to about a tenth of what is left, but not below a second.
    There are few changes while a clip takes as long as estimated.
    """
    stats: dict[str, Any] = {}
    if slowdown is not None:
        stats[SLOWDOWN] = slowdown
    if calibration is not None:
        stats[CALIBRATION] = calibration.model_dump()
    if loras:
        stats[LORAS] = [lora.model_dump() for lora in loras]
    if scale is not None:
        stats[SCALE] = SCALE_RATIO ** round(math.log(scale, SCALE_RATIO))
    if seconds_left > MIN_BUSY_S:
        step = 2.0 ** max(0, math.floor(math.log2(seconds_left / 10)))
        stats[BUSY_UNTIL] = step * round((time.time() + seconds_left) / step)
    return stats


def loras_reported(stats: Mapping[str, Any]) -> tuple[Lora, ...]:
    """Return the adapters in a replica's weights, by its report."""
    try:
        return _LORAS.validate_python(stats.get(LORAS, ()))
    except ValidationError:  # of another release, whose replicas come one by one
        return ()
