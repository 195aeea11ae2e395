"""One attempt at a leased job: generate, upload, report the end."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ray import ObjectRef

from sa_ray.contracts import AudioInfo, Job, JobError, JobResult, StoredClip
from sa_ray.errors import (
    InfrastructureError,
    JobNotFoundError,
    JobStoreError,
    ObjectStoreError,
    OverloadedError,
    ReplicaBrokenError,
    SaRayError,
    StaleLeaseError,
    StoreError,
    UnavailableError,
)
from sa_ray.jobs import JobSnapshot, LeaseReport, LeaseVerdict
from sa_ray.serving.actors import JobsClient, UploaderClient
from sa_ray.serving.ray_errors import translate
from sa_ray.serving.together import all_of
from sa_ray.telemetry import current_traceparent, log_context, note_failure, span

logger = logging.getLogger(__name__)

RETRY_PERIOD_S = 1.0
"""Between two reports of the same end, while the job store is away."""

REPORT_PATIENCE_S = 120.0
"""Time for reporting an end that the job store refuses for good. After it the lease is handed back,
as one that nobody reports, and the clip is made once more."""


class Generate(Protocol):
    """Generates the clips of a job: what is known of each, and a reference to its bytes."""

    def __call__(
        self, job: Job, on_progress: Callable[[float], None], /
    ) -> Awaitable[Sequence[tuple[AudioInfo, "ObjectRef[bytes]"]]]: ...


class Attempt:
    """Works on a job under its lease. ``stop`` ends the work; the end is always reported.

    ``clock`` gives seconds that only grow. ``on_change`` is called when the attempt begins to
    upload.
    """

    def __init__(
        self,
        job: Job,
        jobs: JobsClient,
        uploader: UploaderClient,
        generate: Generate,
        *,
        on_change: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.job = job
        self.progress = 0.0
        """Fraction in [0, 1] of the generation."""
        self.uploading = False
        self.verdict: LeaseVerdict = "held"
        self._jobs = jobs
        self._uploader = uploader
        self._generate = generate
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._stored = False
        self._settling = False
        """The end is being reported: there is nothing left to cancel."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Run the attempt; the task ends when its end is reported."""
        self._task = asyncio.create_task(self._run())
        return self._task

    def report(self) -> LeaseReport:
        return LeaseReport(self.job.id, self.job.token, self.progress)

    def heed(self, verdict: LeaseVerdict) -> None:
        """Take in the verdict of a renewal: stop unless the job is still held."""
        if verdict != "held" and self.verdict == "held":
            self.verdict = verdict
            self.stop()

    def stop(self) -> None:
        if self._task and not self._settling:
            self._task.cancel()

    async def _run(self) -> None:
        with log_context(job_id=self.job.id), self._span():
            try:
                await self._generate_and_upload()
            except asyncio.CancelledError:
                self._settling = True
                await self._let_go()
            except Exception as error:  # noqa: BLE001 - every way to fail ends in a report
                self._settling = True
                reason = translate(error)
                note_failure(reason)
                await self._report_fault(reason)

    async def _generate_and_upload(self) -> None:
        job = self.job
        clips = await self._generate(job, self._note_progress)
        self.progress, self.uploading = 1.0, True
        self._on_change()
        started = self._clock()
        # Each its own, so that the store's confirmation of one holds whatever becomes of another.
        first, *others = await all_of(self._upload(i, *clip) for i, clip in enumerate(clips))
        result = JobResult(
            audio=first.audio,
            object=first.object,
            upload_seconds=self._clock() - started,
            others=tuple(others),
        )
        # Nothing but the answer decides now: a job that must stop comes back without its result.
        self._settling = self._stored = True
        await self._tell(lambda: self._jobs.succeed(job.id, job.token, result))

    async def _upload(self, index: int, info: AudioInfo, audio: "ObjectRef[bytes]") -> StoredClip:
        job = self.job
        # An uploader of the deploy before takes none.
        traced = [traceparent] if (traceparent := current_traceparent()) else []
        # For as long as the store is away: the lease is renewed meanwhile.
        stored = await self._uploader.within(None).upload(
            job.id, job.token, job.request.format, [audio], index, *traced
        )
        return StoredClip(audio=info, object=stored)

    def _span(self) -> AbstractContextManager[object]:
        job = self.job
        told: dict[str, str | int] = {
            "sa_ray.job.id": job.id,
            "sa_ray.job.attempt": job.attempts,
            "sa_ray.variant": job.request.model,
            "sa_ray.key": job.owner,
        }
        return span("job attempt", job.traceparent, told)

    def _note_progress(self, fraction: float) -> None:
        self.progress = fraction

    async def _let_go(self) -> None:
        """End the work without a result: cancelled, stopping, or the lease is someone else's."""
        job = self.job
        try:
            if self.verdict == "cancel":
                await self._tell(lambda: self._jobs.acknowledge_cancel(job.id, job.token))
            elif self.verdict == "held":
                await self._tell(lambda: self._jobs.release(job.id, job.token))
        except Exception as error:  # noqa: BLE001 - the lease runs out and the job is taken again
            logger.warning("could not hand the job back: %s", translate(error))
        if self.uploading:
            # No success of this attempt was reported, so nobody wants its object.
            try:
                await self._uploader.withdraw(job)
            except Exception as error:  # noqa: BLE001 - the clean-up after the job's end does it
                logger.warning("could not delete the object yet: %s", translate(error))

    async def _report_fault(self, error: SaRayError) -> None:
        job = self.job
        reason = JobError(code=error.code, message=error.public_message)
        logger.warning("attempt %d failed: %s", job.attempts, error.message)
        try:
            match error:
                case StaleLeaseError() | JobNotFoundError():
                    await self._withdraw_unless_wanted()
                case _ if self._stored:
                    # No fault of a report fails a job whose audio is there. Its lease is handed
                    # back, as one that nobody reports.
                    raise error
                case OverloadedError() | ReplicaBrokenError():
                    await self._sleep(RETRY_PERIOD_S)
                    await self._tell(lambda: self._jobs.release(job.id, job.token))
                case ObjectStoreError(transient=True) if not self.uploading:
                    # An edit could not read its source. An outage of the store is no fault of the
                    # job, which waits for its end, as an upload does.
                    await self._sleep(RETRY_PERIOD_S)
                    await self._tell(lambda: self._jobs.release(job.id, job.token))
                case InfrastructureError() | UnavailableError() | StoreError(transient=True):
                    await self._tell(lambda: self._jobs.retry(job.id, job.token, reason))
                case _:
                    await self._tell(lambda: self._jobs.fail(job.id, job.token, reason))
        except Exception as failure:  # noqa: BLE001 - the lease runs out and the job is taken again
            logger.warning("could not report on the job: %s", translate(failure))

    async def _withdraw_unless_wanted(self) -> None:
        """Delete what was uploaded for a job that was lost meanwhile: whoever cleaned up after it
        may have done so before the upload."""
        job = self.job
        [now] = await self._jobs.get_all([job.id])
        if isinstance(now, JobSnapshot):
            wanted = now.job.token == job.token and now.job.status == "succeeded"
        elif isinstance(now, JobNotFoundError):
            wanted = False
        else:
            raise now
        if not wanted:
            await self._uploader.withdraw(job)

    async def _tell(self, report: Callable[[], Awaitable[Job]]) -> None:
        """Report the end of the work, again and again while the job store is away."""
        deadline = self._clock() + REPORT_PATIENCE_S
        while True:
            try:
                await report()
                return
            except (JobStoreError, UnavailableError) as error:
                # While the store is away the job is this worker's: nobody can take it back.
                lasting = isinstance(error, JobStoreError) and not error.transient
                if lasting and self._clock() > deadline:
                    raise
                logger.warning("could not report on a job yet: %s", error.message)
            await self._sleep(RETRY_PERIOD_S)
