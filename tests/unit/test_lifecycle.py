"""The life cycle of a job as a pure state machine."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa_ray.contracts import (
    FINAL_STATUSES,
    Job,
)
from sa_ray.errors import ConflictError, StaleLeaseError
from sa_ray.jobs import JobOptions, endings, lifecycle, time_limits, webhook_schedule
from tests.support.jobs import FAULT, RESULT, resolved


def queued(*, max_wait: float | None = None, **options: Any) -> Job:
    return lifecycle.new_job("a" * 32, resolved(), 100.0, JobOptions(**options), max_wait=max_wait)


def running(*, attempts: int = 1, **options: Any) -> Job:
    job = lifecycle.lease(queued(**options), "w1", 101.0)
    while job.attempts < attempts:
        waiting = lifecycle.retry(job, job.token, FAULT, 102.0)
        job = lifecycle.lease(waiting, "w1", waiting.not_before)
    return job


def cancelling() -> Job:
    return lifecycle.cancel(running(), 102.0)


def test_a_new_job_is_due_at_once() -> None:
    job = queued()

    assert (job.status, job.created_at, job.not_before) == ("queued", 100.0, 100.0)
    assert (job.version, job.token, job.attempts) == (0, 0, 0)


def test_lease_starts_an_attempt_under_a_new_token() -> None:
    job = running()

    assert (job.status, job.attempts, job.token, job.version) == ("running", 1, 1, 1)
    assert job.lease is not None
    assert (job.lease.worker, job.lease.token) == ("w1", 1)
    assert job.started_at == 101.0


def test_lease_refuses_what_is_not_due_or_not_queued() -> None:
    waiting = lifecycle.retry(running(), 1, FAULT, 102.0)

    with pytest.raises(ConflictError):
        lifecycle.lease(waiting, "w1", waiting.not_before - 0.001)
    with pytest.raises(ConflictError):
        lifecycle.lease(running(), "w2", 110.0)


def test_success_ends_the_job_with_its_result() -> None:
    job = lifecycle.succeed(running(), 1, RESULT, 105.0)

    assert (job.status, job.result, job.progress) == ("succeeded", RESULT, 1.0)
    assert (job.completed_at, job.lease, job.version) == (105.0, None, 2)


def test_success_after_a_cancel_request_ends_cancelled_without_a_result() -> None:
    job = lifecycle.succeed(cancelling(), 1, RESULT, 105.0)
    assert (job.status, job.result, job.completed_at) == ("cancelled", None, 105.0)


def test_failure_of_the_request_is_final_whatever_attempts_are_left() -> None:
    job = lifecycle.fail(running(), 1, FAULT, 105.0)
    assert (job.status, job.error, job.completed_at, job.lease) == ("failed", FAULT, 105.0, None)


@pytest.mark.parametrize(("attempts", "backoff"), [(1, 2.0), (2, 4.0)])
def test_retry_queues_again_with_a_growing_backoff(attempts: int, backoff: float) -> None:
    job = lifecycle.retry(running(attempts=attempts), attempts, FAULT, 200.0)

    assert (job.status, job.not_before, job.lease) == ("queued", 200.0 + backoff, None)
    assert (job.created_at, job.attempts, job.completed_at) == (100.0, attempts, None)


def test_the_last_attempt_fails_with_a_reason_that_names_the_fault() -> None:
    last = running(attempts=lifecycle.MAX_ATTEMPTS)

    job = lifecycle.retry(last, last.token, FAULT, 200.0)

    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "attempts_exhausted"
    assert "3 attempts" in job.error.message
    assert FAULT.message in job.error.message


def test_release_gives_the_attempt_back_and_is_due_at_once() -> None:
    first = lifecycle.release(running(), 1, 110.0)

    assert (first.status, first.attempts, first.not_before) == ("queued", 0, 110.0)
    assert first.started_at is None

    second = running(attempts=2)
    assert lifecycle.release(second, 2, 110.0).attempts == 1


def test_a_lease_taken_back_from_a_dead_worker_costs_no_attempt() -> None:
    job = lifecycle.take_back(running(attempts=2), 2, 200.0)

    assert (job.status, job.attempts, job.losses, job.lease) == ("queued", 1, 1, None)
    assert job.not_before == 202.0

    for repeated in (job, queued()):
        with pytest.raises(StaleLeaseError):
            lifecycle.take_back(repeated, 2, 201.0)


def test_a_job_that_outlives_too_many_workers_fails() -> None:
    job, now = queued(), 100.0
    for losses in range(1, lifecycle.MAX_LOSSES + 1):
        now = max(now, job.not_before)
        job = lifecycle.take_back(lifecycle.lease(job, "w1", now), losses, now)
        assert job.losses == losses

    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "attempts_exhausted"


def test_cancelling_a_queued_job_ends_it_at_once() -> None:
    job = lifecycle.cancel(queued(), 102.0)
    assert (job.status, job.completed_at, job.version) == ("cancelled", 102.0, 1)


def test_cancelling_a_running_job_asks_its_worker_once() -> None:
    job = cancelling()

    assert (job.status, job.cancel_requested, job.version) == ("running", True, 2)
    assert lifecycle.cancel(job, 103.0) is job


@pytest.mark.parametrize(
    "end",
    [
        lambda job: lifecycle.acknowledge_cancel(job, 1, 105.0),
        lambda job: lifecycle.retry(job, 1, FAULT, 105.0),
        lambda job: lifecycle.release(job, 1, 105.0),
        lambda job: lifecycle.take_back(job, 1, 105.0),
    ],
)
def test_a_job_whose_cancel_was_requested_never_returns_to_the_queue(
    end: Callable[[Job], Job],
) -> None:
    job = end(cancelling())

    assert (job.status, job.lease) == ("cancelled", None)
    assert job.completed_at is not None


def test_nobody_may_acknowledge_a_cancel_that_was_not_requested() -> None:
    with pytest.raises(ConflictError):
        lifecycle.acknowledge_cancel(running(), 1, 105.0)


@pytest.mark.parametrize(
    "job",
    [
        lifecycle.cancel(queued(), 102.0),
        lifecycle.succeed(running(), 1, RESULT, 105.0),
        lifecycle.fail(running(), 1, FAULT, 105.0),
    ],
    ids=lambda job: job.status,
)
def test_an_ended_job_cannot_be_cancelled(job: Job) -> None:
    with pytest.raises(ConflictError):
        lifecycle.cancel(job, 106.0)


def test_a_job_counts_by_its_work_over_the_weight_of_its_owner() -> None:
    request = queued().request

    def work(**options: Any) -> float:
        return lifecycle.new_job("a" * 32, request, 1.0, JobOptions(**options)).work

    assert work(work=3.0) == 3.0
    assert work(work=3.0, weight=2.0) == 1.5
    assert work() == request.n * request.duration
    assert work(work=0.0, weight=1e9) > 0


def test_a_queued_job_fails_at_its_deadline_and_not_before() -> None:
    job = queued(expires_in=50.0)

    with pytest.raises(ConflictError):
        time_limits.overdue(job, 149.999)

    failed = time_limits.overdue(job, 150.0)
    assert (failed.status, failed.completed_at) == ("failed", 150.0)
    assert failed.error is not None
    assert failed.error.code == "deadline_exceeded"
    assert "50 seconds" in failed.error.message
    assert failed.cleanup_at is None

    with pytest.raises(ConflictError):
        time_limits.overdue(queued(), 1e9)


def test_a_job_that_no_worker_takes_in_time_fails_and_says_why() -> None:
    job = queued(max_wait=50.0, webhook_url="https://example.org/hook")

    with pytest.raises(ConflictError):
        time_limits.overdue(job, 149.999)

    failed = time_limits.overdue(job, 150.0)
    assert (failed.status, failed.completed_at) == ("failed", 150.0)
    assert failed.error is not None
    assert failed.error.code == "wait_exceeded"
    assert "50 seconds" in failed.error.message
    assert "STABLE_AUDIO_JOB_MAX_WAIT" in failed.error.message
    assert "small-sfx" in failed.error.message
    assert failed.webhook is not None
    assert failed.webhook.next_attempt_at == 150.0


def test_a_deadline_before_the_end_of_the_wait_comes_first() -> None:
    failed = time_limits.overdue(queued(max_wait=50.0, expires_in=20.0), 200.0)

    assert failed.error is not None
    assert failed.error.code == "deadline_exceeded"


def test_a_job_that_waited_while_nobody_served_waits_anew() -> None:
    waiting = time_limits.overdue(queued(max_wait=50.0), 1000.0, served_since=990.0)

    assert (waiting.status, waiting.start_by) == ("queued", 1040.0)
    with pytest.raises(ConflictError):
        time_limits.overdue(waiting, 1039.9, served_since=990.0)
    assert time_limits.overdue(waiting, 1040.0, served_since=990.0).status == "failed"


@pytest.mark.parametrize(
    ("end", "start_by"),
    [
        (lambda job: lifecycle.release(job, 1, 140.0), 150.0),
        (lambda job: lifecycle.release(job, 1, 140.0, began=True), 190.0),
        (lambda job: lifecycle.retry(job, 1, FAULT, 140.0), 192.0),
        (lambda job: lifecycle.take_back(job, 1, 140.0), 192.0),
    ],
    ids=["handed back unused", "handed back", "retried", "lost with its worker"],
)
def test_a_job_waits_anew_after_an_attempt(end: Callable[[Job], Job], start_by: float) -> None:
    waiting = end(running(max_wait=50.0))

    assert (waiting.status, waiting.start_by) == ("queued", start_by)
    assert time_limits.stop_at(waiting) == start_by


def test_the_wait_ends_no_work() -> None:
    job = running(max_wait=50.0)

    assert not time_limits.must_stop(job, 1e9)
    assert time_limits.stop_at(job) is None
    with pytest.raises(ConflictError):
        time_limits.overdue(job, 1e9)


def test_a_job_past_its_deadline_is_not_leased() -> None:
    with pytest.raises(ConflictError):
        lifecycle.lease(queued(expires_in=50.0), "w1", 150.0)


def test_the_worker_must_stop_at_the_deadline_and_on_cancel() -> None:
    job = running(expires_in=50.0)

    assert not time_limits.must_stop(job, 149.9)
    assert time_limits.must_stop(job, 150.0)
    assert time_limits.must_stop(cancelling(), 110.0)
    assert not time_limits.must_stop(running(), 1e9)


@pytest.mark.parametrize(
    "end",
    [
        lambda job: lifecycle.succeed(job, 1, RESULT, 150.0),
        lambda job: lifecycle.acknowledge_cancel(job, 1, 150.0),
        lambda job: lifecycle.retry(job, 1, FAULT, 150.0),
        lambda job: lifecycle.release(job, 1, 150.0),
        lambda job: lifecycle.take_back(job, 1, 150.0),
    ],
)
def test_past_its_deadline_a_running_job_can_only_fail_or_be_cancelled(
    end: Callable[[Job], Job],
) -> None:
    failed = end(running(expires_in=50.0))

    assert (failed.status, failed.result) == ("failed", None)
    assert failed.error is not None
    assert failed.error.code == "deadline_exceeded"

    assert end(lifecycle.cancel(running(expires_in=50.0), 149.0)).status == "cancelled"


def test_only_a_job_of_which_an_attempt_ended_without_the_result_must_be_cleaned_up() -> None:
    assert lifecycle.cancel(queued(), 102.0).cleanup_at is None
    assert lifecycle.succeed(running(), 1, RESULT, 105.0).cleanup_at is None
    assert lifecycle.fail(running(), 1, FAULT, 105.0).cleanup_at == 105.0

    released = lifecycle.release(running(), 1, 104.0)
    assert lifecycle.cancel(released, 105.0).cleanup_at == 105.0
    second = lifecycle.lease(released, "w2", 105.0)
    assert lifecycle.succeed(second, 2, RESULT, 106.0).cleanup_at == 106.0


def test_cleaning_up_is_repeated_once_after_a_while() -> None:
    failed = lifecycle.fail(running(), 1, FAULT, 105.0)

    once = endings.cleaned(failed, 106.0)
    assert once.cleanup_at == 105.0 + endings.CLEANUP_AGAIN_S
    assert endings.cleaned(once, 105.0 + endings.CLEANUP_AGAIN_S).cleanup_at is None

    late = endings.cleaned(failed, 105.0 + endings.CLEANUP_AGAIN_S)
    assert late.cleanup_at is None
    assert endings.cleaned(late, 999.0) is late


REPORTS: dict[str, Callable[[Job, int], Job]] = {
    "succeed": lambda job, token: lifecycle.succeed(job, token, RESULT, 120.0),
    "fail": lambda job, token: lifecycle.fail(job, token, FAULT, 120.0),
    "retry": lambda job, token: lifecycle.retry(job, token, FAULT, 120.0),
    "release": lambda job, token: lifecycle.release(job, token, 120.0),
    "acknowledge_cancel": lambda job, token: lifecycle.acknowledge_cancel(job, token, 120.0),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
@pytest.mark.parametrize("token", [1, 3])
def test_a_report_under_another_token_is_refused(
    report: Callable[[Job, int], Job], token: int
) -> None:
    with pytest.raises(StaleLeaseError):
        report(running(attempts=2), token)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_repeated_report_changes_nothing(report: Callable[[Job, int], Job]) -> None:
    start = cancelling() if report is REPORTS["acknowledge_cancel"] else running()
    once = report(start, 1)

    assert report(once, 1) is once


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_report_under_an_old_token_is_no_repeat_of_what_ended_the_newest_lease(
    report: Callable[[Job, int], Job],
) -> None:
    second = running(attempts=2)
    if report is REPORTS["acknowledge_cancel"]:
        second = lifecycle.cancel(second, 119.0)
    ended = report(second, 2)

    with pytest.raises(StaleLeaseError):
        report(ended, 1)


def test_a_report_that_contradicts_the_outcome_is_refused() -> None:
    failed = lifecycle.fail(running(), 1, FAULT, 105.0)
    with pytest.raises(StaleLeaseError):
        lifecycle.succeed(failed, 1, RESULT, 106.0)

    succeeded = lifecycle.succeed(running(), 1, RESULT, 105.0)
    for report in ("fail", "retry", "release", "acknowledge_cancel"):
        with pytest.raises(StaleLeaseError):
            REPORTS[report](succeeded, 1)


EVENTS: dict[str, Callable[[Job, int, float], Job]] = {
    "lease": lambda job, _token, now: lifecycle.lease(job, "w1", now),
    "succeed": lambda job, token, now: lifecycle.succeed(job, token, RESULT, now),
    "fail": lambda job, token, now: lifecycle.fail(job, token, FAULT, now),
    "retry": lambda job, token, now: lifecycle.retry(job, token, FAULT, now),
    "release": lambda job, token, now: lifecycle.release(job, token, now),
    "take back": lambda job, token, now: lifecycle.take_back(job, token, now),
    "cancel": lambda job, _token, now: lifecycle.cancel(job, now),
    "acknowledge_cancel": lambda job, token, now: lifecycle.acknowledge_cancel(job, token, now),
    "overdue": lambda job, _token, now: time_limits.overdue(job, now),
    "overdue after a break": lambda job, _token, now: time_limits.overdue(job, now, now - 10),
    "cleaned": lambda job, _token, now: endings.cleaned(job, now),
    "start webhook": lambda job, _token, now: webhook_schedule.start_attempt(job, now),
    "webhook failed": lambda job, token, now: webhook_schedule.failed(job, token, "x", now, 0.5),
    "webhook delivered": lambda job, token, now: webhook_schedule.delivered(job, token, now),
}

_event = st.tuples(
    # Leases are drawn often, or most sequences would never leave the queue.
    st.sampled_from([*EVENTS, "lease", "lease", "lease"]),
    st.integers(0, 1),
    st.sampled_from([0.0, 1.0, 5.0, 30.0]),
)


@given(
    st.lists(_event, max_size=40),
    st.sampled_from([None, 20.0, 90.0]),
    st.sampled_from([None, 15.0]),
    st.sampled_from([None, "https://example.org/hook"]),
)
def test_no_sequence_of_events_breaks_the_rules(
    events: list[tuple[str, int, float]],
    expires_in: float | None,
    max_wait: float | None,
    webhook_url: str | None,
) -> None:
    job, now = queued(expires_in=expires_in, max_wait=max_wait, webhook_url=webhook_url), 100.0
    for name, tokens_behind, elapsed in events:
        now += elapsed
        try:
            after = EVENTS[name](job, job.token - tokens_behind, now)
        except (ConflictError, StaleLeaseError):
            continue
        check_step(job, after)
        job = after


def check_step(before: Job, after: Job) -> None:
    if after is before:
        return
    if before.status in FINAL_STATUSES:
        # Only what is left to do changes then.
        unchanged = {"cleanup_at", "webhook", "version"}
        assert before.model_dump(exclude=unchanged) == after.model_dump(exclude=unchanged)
    assert after.version == before.version + 1
    assert before.token <= after.token <= before.token + 1
    assert 0 <= after.attempts <= lifecycle.MAX_ATTEMPTS
    assert (after.id, after.request, after.created_at) == (
        before.id,
        before.request,
        before.created_at,
    )
    assert (after.lease is not None) == (after.status == "running")
    assert (after.completed_at is not None) == (after.status in FINAL_STATUSES)
    assert (after.result is not None) == (after.status == "succeeded")
    assert (after.error is not None) == (after.status == "failed")
    assert not (after.status == "queued" and after.cancel_requested)
    if after.status not in FINAL_STATUSES:
        assert after.cleanup_at is None
    elif before.status not in FINAL_STATUSES:
        attempts_without_result = after.token - (after.result is not None)
        assert (after.cleanup_at is not None) == (attempts_without_result > 0)
    if after.webhook is not None:
        assert after.webhook.next_attempt_at is None or after.status in FINAL_STATUSES
        assert after.webhook.next_attempt_at is None or after.webhook.delivered_at is None
        assert after.webhook.attempts <= webhook_schedule.MAX_ATTEMPTS
    assert after == Job.model_validate_json(after.model_dump_json())
