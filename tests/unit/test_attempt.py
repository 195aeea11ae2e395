"""One attempt at a leased job: every way it ends is reported, and leaves no stray object."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sa_ray.contracts import Job, JobRequest
from sa_ray.contracts.access import Caller
from sa_ray.errors import (
    GenerationError,
    InfrastructureError,
    JobStoreError,
    ObjectStoreError,
    OverloadedError,
    ReplicaBrokenError,
    UnavailableError,
    UnwritableKeyError,
)
from sa_ray.jobs import LeaseVerdict
from sa_ray.serving.dispatcher.attempt import REPORT_PATIENCE_S, RETRY_PERIOD_S
from sa_ray.serving.ingress.routes.job_options import job_options
from sa_ray.telemetry import close_tracing, span
from tests.support.jobs import resolved
from tests.support.otlp_collector import CLIENT_TRACE, TRACEPARENT, Collector

from .dispatching import LONG, House, answered, fails_once, house, sound


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


async def test_a_clip_is_generated_uploaded_and_reported(home: House) -> None:
    changes: list[bool] = []
    job = await home.leased()
    attempt = home.attempt(job, lambda: changes.append(attempt.uploading))
    home.generator.go()

    await attempt.start()

    ended = await home.now(job.id)
    assert ended.status == "succeeded"
    assert ended.result is not None
    assert ended.result.object.size == len(b"sound")
    assert home.uploader.objects() == [f"{job.id}.wav"]
    assert changes == [True]


async def test_each_clip_of_several_is_an_object_of_its_own(home: House) -> None:
    job = await home.leased(n=3)
    home.generator.go()

    await home.attempt(job).start()

    ended = await home.now(job.id)
    assert ended.result is not None
    names = [f"{job.id}.wav", f"{job.id}_1.wav", f"{job.id}_2.wav"]
    assert [clip.object.key for clip in ended.result.clips] == names
    assert [clip.audio.seed for clip in ended.result.clips] == [7, 8, 9]
    assert home.uploader.objects() == names


async def test_clips_of_which_one_cannot_be_stored_are_no_success(home: House) -> None:
    job = await home.leased(n=3)
    home.generator.go()
    fails_once(home.uploader, "upload", UnwritableKeyError("Too long.", transient=False))

    await home.attempt(job).start()

    assert (await home.now(job.id)).status == "failed"
    await home.tidy()
    assert home.uploader.objects() == []


async def test_a_worker_that_dies_between_two_uploads_leaves_neither_loss_nor_strays(
    home: House,
) -> None:
    job = await home.leased(n=3)
    for index in (0, 1):
        await home.uploader.upload(job.id, job.token, "wav", [sound()], index)  # type: ignore[list-item]
    home.generator.go()

    taken = await home.lost_to_another()
    await home.attempt(taken).start()
    await home.tidy()

    ended = await home.now(job.id)
    assert ended.status == "succeeded"
    names = [f"{job.id}-2.wav", f"{job.id}-2_1.wav", f"{job.id}-2_2.wav"]
    assert home.uploader.objects() == names


async def test_clips_are_withdrawn_together(home: House) -> None:
    job = await home.leased(n=3)
    attempt = home.attempt(job)
    home.generator.go()
    home.uploader.answers.clear()
    work = attempt.start()
    await home.uploader.stored.reaches(3)

    attempt.stop()
    await work

    assert (await home.now(job.id)).status == "queued"
    assert home.uploader.objects() == []


async def test_an_upload_may_take_as_long_as_the_store_is_away(home: House) -> None:
    job = await home.leased()
    home.generator.go()

    await home.attempt(job).start()

    assert home.uploader.calls == [("upload", None)]


async def test_a_bad_request_fails_at_once(home: House) -> None:
    job = await home.leased()
    home.generator.outcome = GenerationError("The clip could not be rendered.")
    home.generator.go()

    await home.attempt(job).start()

    ended = await home.now(job.id)
    assert (ended.status, ended.attempts) == ("failed", 1)
    assert ended.error is not None
    assert ended.error.code == "generation_failed"


@pytest.mark.parametrize(
    "fault",
    [InfrastructureError("A node was lost."), UnavailableError("No replica."),
     JobStoreError("Away.")],
    ids=["a lost process", "no replica", "a store that is away"],
)  # fmt: skip
async def test_a_fault_of_the_infrastructure_is_tried_again(home: House, fault: Exception) -> None:
    job = await home.leased()
    home.generator.outcome = fault
    home.generator.go()

    await home.attempt(job).start()

    waiting = await home.now(job.id)
    assert (waiting.status, waiting.attempts) == ("queued", 1)
    assert waiting.not_before > waiting.created_at


@pytest.mark.parametrize(
    "refusal", [OverloadedError("Every slot is taken."), ReplicaBrokenError("Being replaced.")],
    ids=["a full variant", "a replica that is being replaced"],
)  # fmt: skip
async def test_a_refusal_costs_no_attempt(home: House, refusal: Exception) -> None:
    job = await home.leased()
    home.generator.outcome = refusal
    home.generator.go()

    await home.attempt(job).start()

    waiting = await home.now(job.id)
    assert (waiting.status, waiting.attempts) == ("queued", 0)


async def test_a_source_that_cannot_be_read_during_an_outage_costs_no_attempt(home: House) -> None:
    job = await home.leased()
    home.generator.outcome = ObjectStoreError("The store is away.")
    home.generator.go()

    await home.attempt(job).start()

    waiting = await home.now(job.id)
    assert (waiting.status, waiting.attempts) == ("queued", 0)


async def test_a_source_that_the_store_refuses_for_good_fails(home: House) -> None:
    job = await home.leased()
    home.generator.outcome = ObjectStoreError("Wrong secret.", transient=False)
    home.generator.go()

    await home.attempt(job).start()

    assert (await home.now(job.id)).status == "failed"


async def test_an_error_of_no_known_kind_fails_without_its_text(home: House) -> None:
    job = await home.leased()
    home.generator.outcome = RuntimeError("secret detail")
    home.generator.go()

    await home.attempt(job).start()

    ended = await home.now(job.id)
    assert ended.status == "failed"
    assert ended.error is not None
    assert "secret" not in ended.error.message


async def test_a_stopped_attempt_hands_the_job_back(home: House) -> None:
    job = await home.leased()
    attempt = home.attempt(job)
    work = attempt.start()
    await home.generator.has_begun()

    attempt.stop()
    await work

    waiting = await home.now(job.id)
    assert (waiting.status, waiting.attempts) == ("queued", 0)
    assert home.generator.stopped == [job.id]


async def test_a_cancelled_job_ends_as_cancelled(home: House) -> None:
    job = await home.leased()
    attempt = home.attempt(job)
    work = attempt.start()
    await home.generator.has_begun()
    await home.jobs.cancel(job.id)

    [verdict] = await home.jobs.renew("worker", [attempt.report()])
    attempt.heed(verdict)
    await work

    assert (await home.now(job.id)).status == "cancelled"
    assert home.uploader.calls == []


async def test_the_object_of_a_job_that_is_cancelled_while_it_is_uploaded_is_deleted(
    home: House,
) -> None:
    job = await home.leased()
    attempt = home.attempt(job)
    home.generator.go()
    home.uploader.answers.clear()
    work = attempt.start()
    await home.uploader.stored.reaches(1)
    await home.jobs.cancel(job.id)

    [verdict] = await home.jobs.renew("worker", [attempt.report()])
    attempt.heed(verdict)
    await work

    assert (await home.now(job.id)).status == "cancelled"
    assert home.uploader.objects() == []


async def test_a_lost_lease_ends_the_work_and_reports_nothing(home: House) -> None:
    job = await home.leased()
    attempt = home.attempt(job)
    work = attempt.start()
    await home.generator.has_begun()
    taken = await home.lost_to_another()

    [verdict] = await home.jobs.renew("worker", [attempt.report()])
    attempt.heed(verdict)
    await work

    assert verdict == "lost"
    now = await home.now(job.id)
    assert (now.status, now.token) == ("running", taken.token)
    assert home.uploader.calls == []


async def test_the_object_of_a_job_that_ends_elsewhere_while_it_is_uploaded_is_deleted(
    home: House,
) -> None:
    job = await home.leased()
    attempt = home.attempt(job)
    home.generator.go()
    home.uploader.answers.clear()
    work = attempt.start()
    await home.uploader.stored.reaches(1)
    await home.cancelled_by_another(job.id)

    [verdict] = await home.jobs.renew("worker", [attempt.report()])
    attempt.heed(verdict)
    await work

    assert verdict == "lost"
    assert home.uploader.objects() == []


async def test_a_worker_that_has_lost_its_lease_cannot_touch_what_the_next_one_stored(
    home: House,
) -> None:
    lost = home.attempt(await home.leased())
    home.generator.go()
    home.uploader.answers.clear()
    late = lost.start()
    await home.uploader.stored.reaches(1)
    taken = await home.lost_to_another()
    next_one = home.attempt(taken).start()
    await home.uploader.stored.reaches(2)
    home.uploader.answers.set()

    await asyncio.gather(late, next_one)

    ended = await home.now(taken.id)
    assert ended.result is not None
    assert ended.result.object.key == f"{taken.id}-2.wav"
    assert home.uploader.objects() == [f"{taken.id}-2.wav"]


async def test_the_object_of_an_attempt_that_goes_on_elsewhere_while_it_is_uploaded_is_deleted(
    home: House,
) -> None:
    job = await home.leased()
    attempt = home.attempt(job)
    home.generator.go()
    home.uploader.answers.clear()
    work = attempt.start()
    await home.uploader.stored.reaches(1)
    await home.lost_to_another()

    [verdict] = await home.jobs.renew("worker", [attempt.report()])
    attempt.heed(verdict)
    await work

    assert verdict == "lost"
    assert home.uploader.objects() == []


@pytest.mark.parametrize("verdict", ["cancel", "lost"])
async def test_a_job_that_has_succeeded_keeps_its_object_whatever_is_heard_next(
    home: House, verdict: LeaseVerdict
) -> None:
    """As at a deadline that passes while the success is on its way."""
    job = await home.leased()
    attempt = home.attempt(job)
    home.generator.go()
    stored = answered(home.jobs, "succeed")
    heard = asyncio.Event()
    succeed = home.jobs.succeed

    async def slowly(*args: Any) -> Job:
        ended = await succeed(*args)
        await heard.wait()
        return ended

    home.jobs.succeed = slowly  # type: ignore[method-assign]
    work = attempt.start()
    await stored.reaches(1)

    attempt.heed(verdict)
    await asyncio.sleep(0)
    heard.set()
    await work

    assert (await home.now(job.id)).status == "succeeded"
    assert home.uploader.objects() == [f"{job.id}.wav"]


async def test_what_a_stopping_worker_has_uploaded_is_deleted(home: House) -> None:
    job = await home.leased()
    attempt = home.attempt(job)
    home.generator.go()
    home.uploader.answers.clear()
    work = attempt.start()
    await home.uploader.stored.reaches(1)

    attempt.stop()
    await work

    assert (await home.now(job.id)).status == "queued"
    assert home.uploader.objects() == []


async def test_a_key_that_can_never_be_written_fails_the_job(home: House) -> None:
    job = await home.leased()
    home.generator.go()
    refusal = UnwritableKeyError("The key is too long.", transient=False)
    fails_once(home.uploader, "upload", refusal)
    attempt = home.attempt(job)

    await attempt.start()

    ended = await home.now(job.id)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.message == refusal.public_message != refusal.message


async def test_the_object_of_a_job_that_was_lost_and_has_ended_is_deleted(home: House) -> None:
    job = await home.leased()
    work = home.attempt(job).start()
    await home.generator.has_begun()
    await home.cancelled_by_another(job.id)
    home.generator.go()

    await work

    assert (await home.now(job.id)).status == "cancelled"
    assert home.uploader.objects() == []


async def test_the_object_of_a_job_that_was_deleted_meanwhile_is_deleted(home: House) -> None:
    job = await home.leased()
    work = home.attempt(job).start()
    await home.generator.has_begun()
    await home.cancelled_by_another(job.id)
    await home.jobs.forget(job.id)
    home.generator.go()

    await work

    assert home.uploader.stored == [job.id]
    assert home.uploader.objects() == []


async def test_the_object_of_a_job_that_was_cancelled_meanwhile_is_left_to_the_clean_up(
    home: House,
) -> None:
    job = await home.leased()
    work = home.attempt(job).start()
    await home.generator.has_begun()
    await home.jobs.cancel(job.id)
    home.generator.go()

    await work

    assert (await home.now(job.id)).status == "cancelled"
    assert [unclean.id for unclean in await home.jobs.unclean_jobs(10)] == [job.id]


async def test_the_end_is_reported_whenever_the_store_comes_back(home: House) -> None:
    job = await home.leased()
    home.store.away = int(3 * REPORT_PATIENCE_S)
    home.generator.go()

    await home.attempt(job).start()

    assert home.store.away == 0
    assert (await home.now(job.id)).status == "succeeded"


@pytest.mark.parametrize("outcome", [None, GenerationError("The clip could not be rendered.")])
async def test_a_store_that_refuses_for_good_fails_no_job(
    home: House, outcome: Exception | None
) -> None:
    job = await home.leased()
    home.generator.outcome = outcome
    home.store.away, home.store.transient = sys.maxsize, False
    home.generator.go()

    async with asyncio.timeout(LONG):
        await home.attempt(job).start()

    assert REPORT_PATIENCE_S < home.clock.now <= REPORT_PATIENCE_S + 2 * RETRY_PERIOD_S
    home.store.away = 0
    assert (await home.now(job.id)).status == "running"


async def test_an_unknown_error_of_the_report_fails_no_job_whose_audio_is_stored(
    home: House,
) -> None:
    job = await home.leased()
    fails_once(home.jobs, "succeed", ValueError("I/O operation on closed file."))
    home.generator.go()

    await home.attempt(job).start()

    assert (await home.now(job.id)).status == "running"
    assert len(home.uploader.objects()) == 1


async def test_an_end_that_is_being_reported_cannot_be_stopped(home: House) -> None:
    job = await home.leased()
    refused, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        refused.set()
        await go_on.wait()

    attempt = home.attempt(job, sleep=sleep)
    home.generator.outcome = GenerationError("The clip could not be rendered.")
    home.generator.go()
    home.store.away = 1
    work = attempt.start()
    async with asyncio.timeout(LONG):
        await refused.wait()

    attempt.stop()
    go_on.set()
    await work

    assert (await home.now(job.id)).status == "failed"


async def test_an_attempt_is_in_the_trace_of_its_submit(home: House, collector: Collector) -> None:
    with span("submit", TRACEPARENT):
        request = JobRequest(prompt="rain", model="small-sfx")
        options = job_options(request, None, None, Caller(name="ann", scopes=("generate",)))
        await home.jobs.submit(uuid4().hex, resolved("small-sfx"), options)
    [job] = await home.jobs.lease("small-sfx", "worker", 1)
    home.generator.go()

    await home.attempt(job).start()
    await close_tracing()

    submit, attempt = collector.named("submit", "job attempt")
    assert submit.trace_id == attempt.trace_id == CLIENT_TRACE
    assert attempt.parent_id == submit.span_id
    assert not attempt.failed
    assert attempt.attributes == {
        "sa_ray.job.id": job.id,
        "sa_ray.job.attempt": 1,
        "sa_ray.variant": "small-sfx",
        "sa_ray.key": "ann",
    }
    assert home.uploader.traceparents == [f"00-{CLIENT_TRACE}-{attempt.span_id}-01"]


async def test_the_trace_tells_of_a_failed_attempt(home: House, collector: Collector) -> None:
    job = await home.leased()
    home.generator.outcome = GenerationError("a secret prompt")
    home.generator.go()

    await home.attempt(job).start()
    await close_tracing()

    [attempt] = collector.named("job attempt")
    assert attempt.failed
    assert attempt.attributes["error.type"] == "GenerationError"
    assert "secret" not in repr(attempt)


async def test_an_uploader_is_told_of_traces_only_where_there_are_some(home: House) -> None:
    job = await home.leased()
    home.generator.go()

    await home.attempt(job).start()

    assert home.uploader.traceparents == [None]
