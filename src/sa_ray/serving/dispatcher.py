"""The dispatcher deployment: leases queued jobs, has variants generate them, reports the end."""

import asyncio
import logging
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray import ObjectRef, serve
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from sa_ray.config import Settings
from sa_ray.contracts import AudioInfo, Job, JobError, JobResult, VariantName
from sa_ray.errors import (
    JobNotFoundError,
    OverloadedError,
    SaRayError,
    StaleLeaseError,
    StorageError,
    UnavailableError,
)
from sa_ray.jobs import JobSnapshot, LeaseReport, LeaseVerdict
from sa_ray.serving.actors import jobs_client, uploader_client
from sa_ray.serving.deployments import Starts, deployments_of
from sa_ray.serving.faults import InfrastructureError, translate
from sa_ray.serving.housekeeping import Housekeeping
from sa_ray.serving.messages import Progress
from sa_ray.telemetry import configure_logging, log_context

logger = logging.getLogger(__name__)

RENEW_PERIOD_S = 1.0
"""How often leases are renewed: progress is this fresh, and a cancel takes this long to arrive."""

RENEW_TIMEOUT_S = 3.0
"""Several renewals have to fit into a lease of 10 s."""

WATCH_PERIOD_S = 5.0
"""How often Serve is asked which models it has given up starting."""

WORK_WAIT_S = 20.0
LOST_RACE_PAUSE_S = 0.05
"""After a job that was due went to another dispatcher, or ended."""

MAX_PENDING_UPLOADS = 64
"""Clips waiting for the object store; at this many no more jobs are started."""

REPORT_PATIENCE_S = 120.0
"""How long a result that is stored already is worth reporting again: past it, and past the lease,
the clip is made once more."""

HAND_BACK_S = 5.0
"""How long a stopping dispatcher waits for its jobs to be handed back."""


@dataclass(slots=True, eq=False)
class _Held:
    """A job this dispatcher holds the lease of."""

    job: Job
    progress: float = 0.0
    uploading: bool = False
    settling: bool = False
    """Its end is being reported: there is nothing left to cancel."""
    verdict: LeaseVerdict = "held"
    task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        if self.task and not self.settling:
            self.task.cancel()


class Dispatcher:
    """Holds no state that matters: what it leased is taken back if it dies, and leased again."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, settings: Settings, variants: dict[VariantName, DeploymentHandle[Any]]
    ) -> None:
        configure_logging()
        self._worker = f"dispatcher-{uuid.uuid4().hex[:12]}"
        self._jobs = jobs_client(settings)
        self._uploader = uploader_client(settings)
        self._variants = {
            name: handle.options(stream=True, _by_reference=True)
            for name, handle in variants.items()
        }
        self._capacity = {name: capacity(settings, name) for name in variants}
        self._held: dict[tuple[str, int], _Held] = {}
        self._starts = Starts()
        self._leasing: set[asyncio.Task[int]] = set()
        self._changed = asyncio.Condition()
        housekeeping = Housekeeping(settings, self._jobs, self._uploader)
        self._loops = [
            asyncio.create_task(loop)
            for loop in (
                *(self._lease_forever(name) for name in self._variants),
                self._renew_forever(),
                self._watch_forever(serve.get_replica_context().app_name),
                self._be_watched(),
                *housekeeping.loops(),
            )
        ]

    def check_health(self) -> None:
        for loop in self._loops:
            if loop.done():
                raise RuntimeError("a dispatcher loop has ended") from loop.exception()

    async def __del__(self) -> None:
        for loop in self._loops:
            loop.cancel()
        # A lease taken in the moment of stopping has to be handed back too.
        await _wait_for(self._leasing)
        held = list(self._held.values())
        for one in held:
            one.stop()
        await _wait_for([one.task for one in held if one.task])

    async def _lease_forever(self, variant: VariantName) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._room(variant) > 0)
            try:
                await self._jobs.call(
                    "wait_for_work", variant, WORK_WAIT_S, timeout_s=2 * WORK_WAIT_S
                )
                leasing = asyncio.create_task(self._lease(variant))
                self._leasing.add(leasing)
                leasing.add_done_callback(self._leasing.discard)
                if not await asyncio.shield(leasing):
                    await asyncio.sleep(LOST_RACE_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - the store may be away; jobs wait in it
                logger.warning("leasing for %s failed: %s", variant, translate(error))
                await asyncio.sleep(RENEW_PERIOD_S)

    async def _lease(self, variant: VariantName) -> int:
        jobs = await self._jobs.call("lease", variant, self._worker, self._room(variant))
        for job in jobs:
            held = _Held(job)
            self._held[job.id, job.token] = held
            held.task = asyncio.create_task(self._work(held))
        return len(jobs)

    def _room(self, variant: VariantName) -> int:
        if variant in self._starts.given_up:
            return 0
        generating = uploading = 0
        for held in self._held.values():
            uploading += held.uploading
            generating += not held.uploading and held.job.request.model == variant
        return 0 if uploading >= MAX_PENDING_UPLOADS else self._capacity[variant] - generating

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_PERIOD_S)
            held = list(self._held.values())
            if not held:
                continue
            reports = [LeaseReport(h.job.id, h.job.token, h.progress) for h in held]
            try:
                verdicts = await self._jobs.call(
                    "renew", self._worker, reports, timeout_s=RENEW_TIMEOUT_S
                )
            except Exception as error:  # noqa: BLE001 - the next round tries again
                logger.warning("renewing leases failed: %s", translate(error))
                continue
            for one, verdict in zip(held, verdicts, strict=True):
                if verdict != "held" and one.verdict == "held":
                    one.verdict = verdict
                    one.stop()

    async def _watch_forever(self, app: str) -> None:
        """Have jobs of models that cannot start wait in the queue, where they can be cancelled and
        outlive this application: Serve would keep them for ever."""
        while True:
            await asyncio.sleep(WATCH_PERIOD_S)
            try:
                self._starts.look(await deployments_of(app))
            except Exception as error:  # noqa: BLE001 - the next round asks again
                logger.warning("asking Serve for its deployments failed: %s", translate(error))
                continue
            for held in list(self._held.values()):
                if held.job.request.model in self._starts.given_up and not held.progress:
                    held.stop()
            await self._notify()

    async def _be_watched(self) -> None:
        """Have the job actor notice if this process dies, whichever job actor there is. Ends only
        if Ray took it for dead and it is not: it gets no jobs any more and ought to be replaced."""
        me = ray.get_runtime_context().current_actor
        while True:
            try:
                await self._jobs.call("watch", self._worker, me, timeout_s=None)
            except Exception as error:  # noqa: BLE001 - without it, leases run out in time
                logger.warning("nobody watches this dispatcher: %s", translate(error))
                await asyncio.sleep(RENEW_PERIOD_S)
            else:
                return

    async def _work(self, held: _Held) -> None:
        job = held.job
        with log_context(job_id=job.id):
            try:
                await self._generate_and_upload(held)
            except asyncio.CancelledError:
                held.settling = True
                await self._let_go(held)
            except Exception as error:  # noqa: BLE001 - every way to fail ends in a report
                held.settling = True
                await self._report(held, translate(error))
            finally:
                del self._held[job.id, job.token]
                await self._notify()

    async def _generate_and_upload(self, held: _Held) -> None:
        job = held.job
        info, audio = await self._generate(held)
        held.progress, held.uploading = 1.0, True
        await self._notify()
        started = time.monotonic()
        stored = await self._uploader.call(
            "upload", job.id, job.request.format, [audio], timeout_s=None
        )
        result = JobResult(audio=info, object=stored, upload_seconds=time.monotonic() - started)
        await self._tell("succeed", job.id, job.token, result)

    async def _generate(self, held: _Held) -> tuple[AudioInfo, "ObjectRef[bytes]"]:
        request = held.job.request
        response = cast(
            DeploymentResponseGenerator[Any], self._variants[request.model].stream.remote(request)
        )
        try:
            # The references, not the values: the audio goes to the uploader without passing here.
            references = await response._to_object_ref_gen()  # noqa: SLF001
            while isinstance(message := await (await anext(references)), Progress):
                held.progress = message.fraction
            return message.info, await anext(references)
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]
            raise

    async def _let_go(self, held: _Held) -> None:
        """End the work without a result: cancelled, stopping, or the lease is someone else's."""
        job = held.job
        try:
            if held.verdict == "cancel":
                if held.uploading:
                    await self._uploader.call("discard", job.id, job.request.format)
                await self._tell("acknowledge_cancel", job.id, job.token)
            elif held.verdict == "held":
                await self._tell("release", job.id, job.token)
            elif held.uploading:
                await self._discard_unless_wanted(job)
        except Exception as error:  # noqa: BLE001 - the lease runs out and the job is taken again
            logger.warning("could not hand the job back: %s", translate(error))

    async def _report(self, held: _Held, error: SaRayError) -> None:
        job = held.job
        reason = JobError(code=error.code, message=error.message)
        logger.warning("attempt %d failed: %s", job.attempts, error.message)
        try:
            match error:
                case StaleLeaseError() | JobNotFoundError():
                    await self._discard_unless_wanted(job)
                case OverloadedError():
                    await asyncio.sleep(RENEW_PERIOD_S)
                    await self._tell("release", job.id, job.token)
                case InfrastructureError() | UnavailableError() | StorageError(transient=True):
                    await self._tell("retry", job.id, job.token, reason)
                case _:
                    await self._tell("fail", job.id, job.token, reason)
        except Exception as failure:  # noqa: BLE001 - the lease runs out and the job is taken again
            logger.warning("could not report on the job: %s", translate(failure))

    async def _discard_unless_wanted(self, job: Job) -> None:
        """Delete what was uploaded for a job that was lost meanwhile and has ended without it:
        whoever cleaned up after it may have done so before the upload."""
        now: JobSnapshot | Exception
        [now] = await self._jobs.call("get_all", [job.id])
        if isinstance(now, JobSnapshot):
            wanted = now.job.status not in ("failed", "cancelled")
        elif isinstance(now, JobNotFoundError):
            wanted = False
        else:
            raise now
        if not wanted:
            await self._uploader.call("discard", job.id, job.request.format)

    async def _tell(self, report: str, *args: Any) -> None:
        """Report the end of the work, again and again while the job store is away."""
        deadline = time.monotonic() + REPORT_PATIENCE_S
        while True:
            try:
                await self._jobs.call(report, *args)
                return
            except (StorageError, UnavailableError) as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("could not report on a job yet: %s", error.message)
            await asyncio.sleep(RENEW_PERIOD_S)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _wait_for(tasks: Collection[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=HAND_BACK_S)


def capacity(settings: Settings, variant: VariantName) -> int:
    """How many jobs saturate ``variant`` at ``max_replicas``."""
    spec = settings.spec(variant)
    return spec.max_replicas * spec.max_ongoing_requests
