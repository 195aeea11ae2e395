"""Metrics for Prometheus: their names, labels and bounds, and how they are recorded.

Ray collects them from all processes and exports them on each node. There a name begins with
``ray_``, and that of a counter ends in ``_total``. Every label has few values: routes, statuses,
codes, variants, formats, and names of keys.
"""

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

from ray.util import metrics as ray_metrics

_SWITCH: Final = "RAY_enable_metrics_collection"

ENABLED: Final = os.environ.get(_SWITCH, "true").lower() != "false"
"""A private Ray collects none."""

ANONYMOUS: Final = "anonymous"
OTHER: Final = "other"

MAX_KEYS: Final = 200
"""Names of keys that a process tells apart; all further ones are ``other``."""

WAITS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
WORK: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
CLIPS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
FACTORS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

Kind = Literal["counter", "gauge", "histogram"]


class Metric:
    """A metric, made in Ray when it is first recorded in a process."""

    kind: ClassVar[Kind]

    def __init__(self, name: str, labels: Sequence[str], help_text: str) -> None:
        self.name = name
        self.labels = tuple(labels)
        self.help = help_text
        self._made: Any = None

    @property
    def is_recorded(self) -> bool:
        """Whether this process has recorded it."""
        return self._made is not None

    @property
    def exported(self) -> str:
        """Its name at the endpoint of Ray; that of a histogram without ``_bucket`` and so on."""
        return f"ray_{self.name}{'_total' if self.kind == 'counter' else ''}"


class Counter(Metric):
    kind = "counter"

    def add(self, amount: float = 1.0, **labels: str) -> None:
        if not ENABLED or amount <= 0:
            return
        if self._made is None:
            self._made = ray_metrics.Counter(self.name, self.help, self.labels)
        self._made.inc(amount, labels)


class Gauge(Metric):
    kind = "gauge"

    def set(self, value: float, **labels: str) -> None:
        if not ENABLED:
            return
        if self._made is None:
            self._made = ray_metrics.Gauge(self.name, self.help, self.labels)
        self._made.set(value, labels)


class Histogram(Metric):
    kind = "histogram"

    def __init__(
        self, name: str, labels: Sequence[str], help_text: str, bounds: Sequence[float]
    ) -> None:
        super().__init__(name, labels, help_text)
        self.bounds = bounds

    def observe(self, value: float, **labels: str) -> None:
        if not ENABLED:
            return
        if self._made is None:
            self._made = ray_metrics.Histogram(self.name, self.help, list(self.bounds), self.labels)
        self._made.observe(value, labels)


REQUESTS = Counter(
    "sa_ray_requests",
    ("method", "route", "status"),
    "HTTP requests that the ingress answered, by route and class of status (`2xx`).",
)
REFUSALS = Counter(
    "sa_ray_refusals",
    ("code", "status"),
    "Requests that the ingress, or what is in front of Serve's proxy, answered with an error, by "
    "its code. 429: over a limit.",
)
QUEUE_WAIT = Histogram(
    "sa_ray_queue_wait_seconds",
    ("queue", "variant"),
    "Wait of a clip in a replica for its engine (`replica`), of a job for its first attempt "
    "(`jobs`).",
    WAITS,
)
BATCH_CLIPS = Histogram("sa_ray_batch_clips", ("variant",), "Clips of a batch.", CLIPS)
ENGINE_SECONDS = Histogram(
    "sa_ray_engine_seconds", ("variant",), "Seconds that the engine took for a batch.", WORK
)
AUDIO_RTF = Histogram(
    "sa_ray_audio_rtf",
    ("variant",),
    "Real-time factor of a batch: seconds of the engine for each second of audio.",
    FACTORS,
)
ENCODE_SECONDS = Histogram(
    "sa_ray_encode_seconds",
    ("format", "variant"),
    "Seconds of mastering, encoding and signing a clip, the wait for a thread included.",
    WORK,
)
UPLOAD_SECONDS = Histogram(
    "sa_ray_upload_seconds",
    ("format",),
    "Seconds until the object store has confirmed a clip, retries included.",
    WORK,
)
AUDIO_SECONDS = Counter(
    "sa_ray_audio_seconds",
    ("key", "variant"),
    "Seconds of audio that were answered, or stored by jobs that succeeded.",
)
GPU_SECONDS = Counter(
    "sa_ray_gpu_seconds",
    ("key", "variant"),
    "Seconds of the engine times the replica's share of a GPU; none without GPUs.",
)
JOBS = Gauge("sa_ray_jobs", ("status", "variant"), "Jobs that are queued, and that are running.")
QUEUE_AGE = Gauge(
    "sa_ray_queue_age_seconds",
    ("variant",),
    "Age of the oldest of the jobs that are next in the queue; 0: none waits.",
)
JOB_ENDINGS = Counter("sa_ray_job_endings", ("status", "variant"), "Jobs that have ended.")
JOB_ATTEMPTS = Counter("sa_ray_job_attempts", ("variant",), "Attempts at jobs that have begun.")
JOB_RETRIES = Counter(
    "sa_ray_job_retries",
    ("reason", "variant"),
    "Jobs that went back to the queue: after a `fault`, with a `lost` worker, or `released` "
    "unused.",
)
STORE_UP = Gauge(
    "sa_ray_store_up",
    ("store",),
    "1: the store of `jobs` or of `objects` can be used, as an ingress replica hears; 0: not.",
)

METRICS: Final[tuple[Metric, ...]] = (
    REQUESTS,
    REFUSALS,
    QUEUE_WAIT,
    BATCH_CLIPS,
    ENGINE_SECONDS,
    AUDIO_RTF,
    ENCODE_SECONDS,
    UPLOAD_SECONDS,
    AUDIO_SECONDS,
    GPU_SECONDS,
    JOBS,
    QUEUE_AGE,
    JOB_ENDINGS,
    JOB_ATTEMPTS,
    JOB_RETRIES,
    STORE_UP,
)

_keys: set[str] = set()


def key_label(owner: str) -> str:
    """Return the value of the label ``key`` for the name of a key; empty: there was none."""
    if not owner:
        return ANONYMOUS
    if owner not in _keys:
        if len(_keys) >= MAX_KEYS:
            return OTHER
        _keys.add(owner)
    return owner


def markdown() -> str:
    """Return the table of all metrics, as the documentation has it."""
    rows = [
        f"| `{one.exported}` | {one.kind} | {', '.join(f'`{name}`' for name in one.labels)} "
        f"| {one.help} |"
        for one in METRICS
    ]
    head = ["| Metric | Kind | Labels | What it counts |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])
