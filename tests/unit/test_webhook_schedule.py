"""When webhooks are called, as a pure state machine."""

import pytest

from sa_ray.contracts import Job, ResolvedRequest, Webhook
from sa_ray.errors import ConflictError
from sa_ray.jobs import JobOptions, lifecycle, webhook_schedule

URL = "https://example.org/hook"


def ended() -> Job:
    """A job that ended at 200 s."""
    request = ResolvedRequest(
        model="small-sfx", prompt="rain", duration=1.0, steps=8, cfg_scale=1.0, seed=7
    )
    job = lifecycle.new_job("a" * 32, request, 100.0, JobOptions(webhook_url=URL))
    return lifecycle.cancel(job, 200.0)


def webhook(job: Job) -> Webhook:
    assert job.webhook is not None
    return job.webhook


def test_the_first_attempt_is_due_when_the_job_ends() -> None:
    job = ended()

    assert webhook(job) == Webhook(url=URL, next_attempt_at=200.0)
    with pytest.raises(ConflictError):
        webhook_schedule.start_attempt(job, 199.9)
    assert webhook(webhook_schedule.start_attempt(job, 200.0)).attempts == 1


def test_an_attempt_under_way_is_not_started_again_until_it_counts_as_lost() -> None:
    job = webhook_schedule.start_attempt(ended(), 200.0)

    with pytest.raises(ConflictError):
        webhook_schedule.start_attempt(job, 200.0 + webhook_schedule.ATTEMPT_S - 0.1)

    again = webhook_schedule.start_attempt(job, 200.0 + webhook_schedule.ATTEMPT_S)
    assert webhook(again).attempts == 2


def test_failed_attempts_are_made_again_over_hours_and_then_given_up() -> None:
    job, now, waits = ended(), 200.0, []
    while (due := webhook(job).next_attempt_at) is not None:
        waits.append(due - now)
        job = webhook_schedule.start_attempt(job, due)
        now = due + 1.0
        job = webhook_schedule.failed(job, webhook(job).attempts, "HTTP 500", now, jitter=0.0)

    assert waits == [0.0, *webhook_schedule.DELAYS_S]
    assert webhook(job).attempts == webhook_schedule.MAX_ATTEMPTS
    assert webhook(job).error == "Attempt 9: HTTP 500"
    assert webhook(job).delivered_at is None


def test_jitter_stretches_the_delay() -> None:
    job = webhook_schedule.start_attempt(ended(), 200.0)

    stretched = webhook_schedule.failed(job, 1, "HTTP 500", 201.0, jitter=0.5)

    assert webhook(stretched).next_attempt_at == 201.0 + 5.0 * 1.1


def test_attempts_whose_outcome_is_never_reported_end_too() -> None:
    job, starts = ended(), 0
    while (due := webhook(job).next_attempt_at) is not None:
        job = webhook_schedule.start_attempt(job, due)
        starts += 1

    assert webhook(job).attempts == webhook_schedule.MAX_ATTEMPTS
    assert starts == webhook_schedule.MAX_ATTEMPTS + 1


def test_a_delivery_is_final() -> None:
    started = webhook_schedule.start_attempt(ended(), 200.0)

    done = webhook_schedule.delivered(started, 1, 201.0)

    assert webhook(done) == Webhook(url=URL, attempts=1, delivered_at=201.0)
    assert webhook_schedule.delivered(done, 1, 202.0) is done
    assert webhook_schedule.failed(done, 1, "late", 202.0, 0.0) is done
    with pytest.raises(ConflictError):
        webhook_schedule.start_attempt(done, 999.0)


def test_a_late_report_on_an_earlier_attempt_counts_only_if_it_was_a_delivery() -> None:
    first = webhook_schedule.start_attempt(ended(), 200.0)
    second = webhook_schedule.start_attempt(first, 300.0)

    assert webhook_schedule.failed(second, 1, "slow", 301.0, 0.0) is second
    assert webhook(webhook_schedule.delivered(second, 1, 301.0)).delivered_at == 301.0


def test_a_repeated_report_changes_nothing() -> None:
    started = webhook_schedule.start_attempt(ended(), 200.0)
    once = webhook_schedule.failed(started, 1, "HTTP 500", 201.0, 0.0)

    assert webhook_schedule.failed(once, 1, "HTTP 500", 202.0, 0.9) is once
