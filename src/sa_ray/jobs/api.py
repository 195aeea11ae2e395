"""The job API: every operation of clients, workers and operators, and its answer.

``JobCoordinator`` implements it; the job actor forwards it to other processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from sa_ray.contracts import (
    Job,
    JobError,
    JobResult,
    JobStatus,
    Priority,
    ResolvedRequest,
    UsageRow,
    VariantName,
)
from sa_ray.errors import JobNotFoundError
from sa_ray.scheduling.estimator import Estimator

QueueCounts = Mapping[VariantName, Mapping[JobStatus, int]]

LeaseVerdict = Literal["held", "cancel", "lost"]
"""``held``: work on. ``cancel``: held, but cancelled or past its deadline; stop and acknowledge.
``lost``: the job is no longer yours; stop, and store nothing."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options of a job besides its clip.

    ``idempotency_key``, which tells apart the jobs of one ``owner``, and ``fingerprint`` (digest of
    the client's request before any choice is made for it) go together; ``expires_in`` is in
    seconds. ``sealed_secrets``: see ``Webhook``. ``weight``: share of the owner, as
    against that of others. ``work``: estimated seconds of one replica; None: not estimated.
    ``max_queued``: jobs that the owner may have queued; ``max_seconds``: of audio that it may have
    made in a day, of which ``unreported_seconds`` are not in the accounts yet. None: no limit.
    ``traceparent``: W3C trace context of the span that submits it.
    """

    priority: Priority = "normal"
    expires_in: float | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    webhook_url: str | None = None
    sealed_secrets: str | None = None
    owner: str = ""
    weight: float = 1.0
    work: float | None = None
    traceparent: str | None = None
    max_queued: int | None = None
    max_seconds: float | None = None
    unreported_seconds: float = 0.0

    def __setstate__(self, state: list[Any]) -> None:
        """Unpickle; replicas of the deploy before, which outlive its job actor, know less."""
        for position, field in enumerate(fields(self)):
            value = state[position] if position < len(state) else field.default
            object.__setattr__(self, field.name, value)


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to submit.

    The caller draws ``job_id``, so repeating a call whose answer was lost adds nothing.
    """

    job_id: str
    request: ResolvedRequest
    options: JobOptions = JobOptions()


@dataclass(frozen=True, slots=True)
class Deferral:
    """A webhook call that was started and not made, to be due again in ``seconds``."""

    job_id: str
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job with its live progress.

    ``queue_position``: 1 is next for its variant, and 1,000 stands for all places from there on;
    None unless queued, in pages, and from a submit.
    ``replayed``: an earlier submit with the same idempotency key made the job.
    """

    job: Job
    queue_position: int | None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class ChangedJobs:
    """Ids of jobs that changed; None: any job may have. ``cursor``: pass it as ``after``."""

    cursor: str
    job_ids: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """End of a page of jobs (newest first); ``created_at`` in Unix seconds."""

    created_at: float
    id: str


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """A worker's sign of life for one job. ``progress``: fraction in [0, 1] of this attempt."""

    job_id: str
    token: int
    progress: float


def no_such_job(job_id: str) -> JobNotFoundError:
    """Return the error for an id that no job has, as far as who asks may know."""
    return JobNotFoundError(f"There is no job {job_id}.")


class JobApi(Protocol):
    """Submits, hands out and ends jobs. Every method may run twice for one call.

    Every method may raise ``JobStoreError``; those that take a job id raise ``JobNotFoundError``,
    and reports ``StaleLeaseError`` (see ``lifecycle``).
    """

    # For clients

    async def submit_all(self, submissions: Sequence[Submission]) -> list[JobSnapshot | Exception]:
        """Queue jobs; each is durable when this returns.

        Returns a job or its error for each, in order: ``QueueFullError``, ``RateLimitedError`` or
        ``InvalidRequestError`` by the limits that its options name, or
        ``IdempotencyConflictError`` if its key came with another fingerprint before.
        """
        ...

    async def find_repeated(self, submission: Submission) -> JobSnapshot | None:
        """Return the job that ``submission`` repeats, if it repeats one; nothing is queued.

        Raises ``IdempotencyConflictError`` as a submit does.
        """
        ...

    async def get_all(self, job_ids: Sequence[str]) -> list[JobSnapshot | Exception]:
        """Read jobs; return a job or its error for each, in order."""
        ...

    async def changed(self, after: str | None, timeout_s: float) -> ChangedJobs:
        """Name the jobs that changed since the call that answered with the cursor ``after``.

        A change is one of what is shown of a job: state, progress, place in the queue. Returns as
        soon as there is one, with no ids after ``timeout_s`` seconds without. Returns at once for
        None, and for a cursor that this process does not know, with None for the ids. One call at
        a time serves all who watch jobs in a process; it costs the same whatever they watch.
        """
        ...

    async def page(
        self,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        *,
        owner: str | None = None,
        prompts: bool = True,
    ) -> list[JobSnapshot]:
        """List jobs newest first, strictly older than ``after``, without queue positions.

        ``owner``: a name, for what it owns; None: all.
        ``prompts``: False leaves them blank, which keeps the answer small.
        """
        ...

    async def cancel(self, job_id: str) -> Job:
        """Cancel a queued job, or ask the worker of a running one to stop; asking again is fine.

        Raises ``ConflictError`` if the job has ended.
        """
        ...

    async def forget(self, job_id: str) -> None:
        """Delete the record of an ended job. Raises ``ConflictError`` if it has not ended."""
        ...

    # For workers

    async def lease(self, variant: VariantName, worker: str, limit: int) -> list[Job]:
        """Lease up to ``limit`` due jobs in the order of the queue.

        Empty if none is due. ``worker`` names one process, and holds its leases for as long as it
        calls ``renew``.
        """
        ...

    async def wait_for_work(self, variant: VariantName, wait_s: float) -> None:
        """Return when a job is due, or after ``wait_s`` seconds.

        Waiting is apart from leasing, so a worker that dies while it waits takes no job with it.
        """
        ...

    async def renew(
        self, worker: str, reports: Sequence[LeaseReport], *, leasing: bool = False
    ) -> list[LeaseVerdict]:
        """Keep the worker's leases, and note the progress.

        Returns one verdict for each report, in order. A lease that the reports keep leaving out is
        taken back: the worker does not know of it. ``leasing``: it waits for an answer to
        ``lease``, so it may yet hear of some.
        """
        ...

    async def succeed(self, job_id: str, token: int, result: JobResult) -> Job:
        """Report that the object is stored.

        A job that comes back without a result was cancelled or had passed its deadline; its object
        is deleted by way of ``unclean_jobs``.
        """
        ...

    async def fail(self, job_id: str, token: int, error: JobError) -> Job:
        """Report a fault of the request: no more attempts follow."""
        ...

    async def retry(self, job_id: str, token: int, reason: JobError) -> Job:
        """Report a fault of the infrastructure: after a backoff another attempt follows, if any."""
        ...

    async def release(self, job_id: str, token: int) -> Job:
        """Hand the job back unused; it is due again at once and the attempt does not count."""
        ...

    async def acknowledge_cancel(self, job_id: str, token: int) -> Job:
        """Report that the worker has stopped, as the verdict ``cancel`` asked.

        The job comes back as ``cancelled``, or as ``failed`` if its deadline ended it.
        """
        ...

    # For work after the end of a job. Each list gives the longest due first.

    async def unclean_jobs(self, limit: int) -> list[Job]:
        """List ended jobs of which an attempt may have left an object besides the result.

        Delete those objects, which may not exist, then call ``cleaned_all``.
        """
        ...

    async def cleaned_all(self, jobs: Sequence[Job]) -> list[Job | Exception]:
        """Report that those objects are gone. ``jobs``: as they were listed.

        Returns a job or its error for each, in order. A job may be listed once more later, in case
        a worker that had lost it was still uploading.
        """
        ...

    async def expired_jobs(self, limit: int) -> list[Job]:
        """List ended jobs whose time is over: delete the object, then ``forget_all`` the jobs."""
        ...

    async def forget_all(self, jobs: Sequence[Job]) -> list[Exception | None]:
        """Do as ``forget`` does to ``jobs``, as listed; return its error for each, in order."""
        ...

    async def start_webhooks(self, limit: int) -> list[Job]:
        """Start the webhook calls that are due, each for attempt ``job.webhook.attempts``.

        Each is handed out once. Report its outcome, or put it back by ``defer_webhooks``; a call
        of which nothing is heard within a minute is tried again.
        """
        ...

    async def defer_webhooks(self, deferrals: Sequence[Deferral]) -> list[Job | Exception]:
        """Put back calls that were started and not made: those attempts do not count.

        Returns a job or its error for each, in order.
        """
        ...

    async def webhook_delivered(self, job_id: str, attempt: int) -> Job:
        """Report that the receiver has taken the call."""
        ...

    async def webhook_failed(self, job_id: str, attempt: int, error: str) -> Job:
        """Report a call that failed; another attempt follows after a delay, if any is left."""
        ...

    # For operators

    async def counts(self) -> QueueCounts:
        """Count queued and running jobs, by variant and status.

        In a queue of over 10,000 jobs the count may be a second old.
        """
        ...

    async def backlog(self, variant: VariantName, estimator: Estimator, at_most: float) -> float:
        """Estimate the seconds of one replica that the queued jobs of ``variant`` take.

        Each job counts at most ``at_most`` seconds.
        """
        ...

    async def secret(self, name: str) -> str:
        """Return the secret of this name, which is drawn when it is first asked for: 64 hex digits
        that all processes share."""
        ...

    async def add_usage(self, report_id: str, rows: Sequence[UsageRow]) -> None:
        """Add ``rows`` to the accounts; a repeated report counts once."""
        ...

    async def usage(self, first: str, last: str, owner: str | None) -> list[UsageRow]:
        """Return the usage of the days from ``first`` to ``last``, of ``owner`` or of all."""
        ...

    async def audio_seconds(self, owner: str, day: str) -> float:
        """Return the audio seconds that ``owner`` asked for on ``day`` (of UTC, as
        ``2026-01-31``), without what was refused, failed or cancelled."""
        ...

    async def check(self) -> None:
        """Raise ``JobStoreError`` if the store cannot be written now."""
        ...
