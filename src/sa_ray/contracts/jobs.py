"""The stored job, and the messages between the processes that work on it."""

from typing import Self

from pydantic import Field

from sa_ray.contracts.generation import ResolvedRequest
from sa_ray.contracts.names import (
    JOB_ID_PATTERN,
    AudioFormat,
    EngineName,
    JobStatus,
    Priority,
)
from sa_ray.contracts.objects import StoredObject
from sa_ray.contracts.record import Record


class AudioInfo(Record):
    """Metadata of a finished clip."""

    engine: EngineName
    sample_rate: int
    """Hz of the encoded file; Opus has no 44.1 kHz and is stored at 48 kHz."""
    channels: int
    duration: float
    """Seconds: exactly the samples generated over their rate."""
    format: AudioFormat
    generation_seconds: float
    """Seconds the engine worked on the batches that held this clip."""
    seed: int | None = None
    """Seed of this clip; null in older records: that of the request."""
    warning: str | None = None
    """What is wrong with the clip, and what to do about it; null: nothing was found."""

    def seed_of(self, request: ResolvedRequest) -> int:
        """Return the seed of this clip, made for ``request``."""
        return request.seed if self.seed is None else self.seed


class StoredClip(Record):
    audio: AudioInfo
    object: StoredObject


class JobResult(StoredClip):
    """Clips of a job, of which the first is that of ``audio`` and ``object``."""

    upload_seconds: float
    others: tuple[StoredClip, ...] = ()

    @property
    def clips(self) -> tuple[StoredClip, ...]:
        """All clips, in the order of their seeds."""
        return self, *self.others


class JobError(Record):
    code: str
    message: str


class Lease(Record):
    """A worker's right to work on a job for as long as its heartbeat is heard.

    ``token`` is the fencing token: it grows with every lease of the job, so a report that
    carries an older one is refused.
    """

    token: int
    worker: str


class Webhook(Record):
    """The call that tells a client of the end of its job. Times are Unix seconds."""

    url: str
    sealed_secrets: str | None = None
    """The receiver's own secrets, as ``jobs.webhook_secrets`` seals them; null: the operator's sign
    the call."""
    next_attempt_at: float | None = None
    """Null until the job has ended, and again once delivered or given up."""
    attempts: int = 0
    delivered_at: float | None = None
    error: str | None = None
    """Error of the last failed attempt."""


class Job(Record):
    """The stored job. Times are Unix seconds (UTC). Only ``jobs.lifecycle`` makes new versions."""

    id: str = Field(pattern=JOB_ID_PATTERN)
    request: ResolvedRequest
    priority: Priority = "normal"
    deadline: float | None = None
    """Time by which the job must finish, or fail."""
    max_wait: float | None = None
    """Seconds that it may wait for a worker each time it is queued; null: for ever."""
    start_by: float | None = None
    """Time by which a worker must take the queued job, or it fails."""
    idempotency_key: str | None = None
    """Unique among the stored jobs."""
    fingerprint: str | None = None
    """Digest of the client's request, to tell a repeat from another request with its key."""
    owner: str = ""
    """Name of the key that submitted it; empty: there were no keys."""
    work: float = Field(default=1.0, gt=0)
    """What it counts for in the queue: seconds of one replica, over the weight of its owner."""
    traceparent: str | None = None
    """W3C trace context of the span that submitted it; null: there was none."""
    status: JobStatus = "queued"
    created_at: float
    started_at: float | None = None
    """Time of the last attempt's lease; null while queued for the first time."""
    completed_at: float | None = None
    not_before: float
    """Earliest time to lease a queued job (backoff after an infrastructure fault)."""
    attempts: int = 0
    """Leases taken so far, not counting those handed back unused or lost with their worker."""
    losses: int = 0
    """Leases lost because their worker fell silent."""
    token: int = 0
    """Last fencing token given out for this job."""
    lease: Lease | None = None
    cancel_requested: bool = False
    progress: float = 0.0
    """Fraction in [0, 1] of the current attempt."""
    result: JobResult | None = None
    error: JobError | None = None
    cleanup_at: float | None = None
    """Time from which objects besides the result's must be looked for and deleted. Set if an
    attempt ended without the job's result: its upload may have happened, or be under way."""
    webhook: Webhook | None = None
    version: int = 0
    """Grows with every stored change; the compare-and-set key of the store."""

    def without_prompts(self) -> Self:
        """Return the job for a list, which may be long: with blanks for what is to be heard."""
        request = self.request.model_copy(update={"prompt": "", "negative_prompt": None})
        return self.model_copy(update={"request": request})
