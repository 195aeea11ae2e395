"""Records of requests, and figures of a phase of them."""

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

PERCENTILES = (50, 90, 95, 99)
REFUSED = (429, 503)


@dataclass(slots=True)
class Record:
    """One request. Times are seconds from the start of the phase.

    ``intended``: when it should have been sent; latency counts from there, so that a server that
    stalls is charged for whom it kept from sending. ``status``: 0 if there was no answer.
    """

    kind: str
    intended: float
    ended: float = 0.0
    status: int = 0
    error: str | None = None
    retry_after: float | None = None
    engine_ms: float | None = None
    size: int = 0

    @property
    def latency(self) -> float:
        return self.ended - self.intended

    @property
    def is_good(self) -> bool:
        return self.error is None and 200 <= self.status < 300

    @property
    def is_refused(self) -> bool:
        return self.status in REFUSED


@dataclass(slots=True)
class Phase:
    """The records of one phase. ``cpu``: seconds of CPU by part over all of it."""

    seconds: float = 0.0
    records: list[Record] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return sum(one.is_good for one in self.records) / self.seconds if self.seconds else 0.0

    def latency_ms(self, name: str) -> float:
        """Return what ``percentiles`` says of good answers, by its ``name``."""
        return percentiles([one.latency for one in self.records if one.is_good])[name]

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON has them; latencies in milliseconds."""
        good = [one for one in self.records if one.is_good]
        refused = [one for one in self.records if one.is_refused]
        failed = [one for one in self.records if not one.is_good and not one.is_refused]
        engine = [one.engine_ms for one in good if one.engine_ms is not None]
        return {
            "seconds": round(self.seconds, 3),
            "requests": len(self.records),
            "good": len(good),
            "good_per_second": round(self.per_second, 2),
            "refused": len(refused),
            "refused_without_retry_after": sum(one.retry_after is None for one in refused),
            "failed": len(failed),
            "failures": dict(Counter(one.error or str(one.status) for one in failed)),
            "latency_ms": percentiles([one.latency for one in good]),
            "refusal_ms": percentiles([one.latency for one in refused]),
            "engine_ms": round(statistics.fmean(engine), 2) if engine else None,
            "kinds": {
                kind: percentiles([one.latency for one in good if one.kind == kind])
                for kind in sorted({one.kind for one in good})
            },
            "cpu_ms": self.cpu_ms(),
            "cpu_ms_served": round(self.cpu_ms_served(), 3),
        }

    def cpu_ms(self) -> dict[str, float]:
        """Return milliseconds of CPU a request by part, whatever came of the requests."""
        count = max(1, len(self.records))
        return {part: round(1000 * spent / count, 3) for part, spent in self.cpu.items()}

    def cpu_ms_served(self) -> float:
        """Return milliseconds of CPU a request of all but the client."""
        return sum(spent for part, spent in self.cpu_ms().items() if part != "client")


def percentiles(latencies: list[float]) -> dict[str, float]:
    """Return percentiles, mean and maximum of ``latencies`` (seconds) in milliseconds."""
    if not latencies:
        return {}
    points = statistics.quantiles(latencies, n=100, method="inclusive") if latencies[1:] else None
    found = {f"p{one}": points[one - 1] if points else latencies[0] for one in PERCENTILES}
    found |= {"mean": statistics.fmean(latencies), "max": max(latencies)}
    return {name: round(1000 * seconds, 2) for name, seconds in found.items()}
