"""Webhook calls of ended jobs: many receivers at once, and none waits for a silent one."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import socket
from uuid import uuid4

import pytest

from sa_ray.contracts import Job, JobView
from sa_ray.jobs import JobOptions, JobSnapshot
from sa_ray.jobs.webhook_hosts import FIRST_LIMIT
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.jobs.webhook_sender import WebhookSender
from sa_ray.serving.dispatcher.webhook_calls import WebhookCalls
from sa_ray.serving.job_view import JobViews
from sa_ray.settings import load_settings
from sa_ray.storage import ObjectStores
from tests.support.jobs import resolved
from tests.support.webhook_receiver import Call, Receiver, receiving, respond

from .dispatching import House, answered, house, quickly

SECRET = "whsec_" + "A" * 32
SILENT = 60


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def silent_ports() -> Iterator[list[int]]:
    """Ports where connections are taken and nothing is ever said."""
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket())) for _ in range(SILENT)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
            each.listen(64)
        yield [each.getsockname()[1] for each in sockets]


@asynccontextmanager
async def calling(home: House) -> AsyncIterator[None]:
    views = JobViews(ObjectStores(load_settings({"storage_bucket": ""}).storage))

    async def view(job: Job) -> JobView:
        return await views.one(JobSnapshot(job, None), "")

    sender = WebhookSender(WebhookSecrets([SECRET]), allow_private=True)
    calls = asyncio.create_task(WebhookCalls(home.jobs, sender, view, sleep=quickly).run())
    try:
        yield
        assert not calls.done()
    finally:
        calls.cancel()
        await asyncio.wait({calls})
        await sender.close()


async def ended(home: House, url: str, sealed: str | None = None) -> str:
    """A job whose end is to be told to ``url``."""
    options = JobOptions(webhook_url=url, sealed_secrets=sealed)
    job_id = (await home.jobs.submit(uuid4().hex, resolved(), options)).job.id
    await home.jobs.cancel(job_id)
    return job_id


async def test_a_webhook_is_called_until_its_receiver_takes_it(
    home: House, receiver: Receiver
) -> None:
    statuses = iter([500])

    def answer(handler: BaseHTTPRequestHandler, _: Call) -> None:
        respond(handler, next(statuses, 204))

    receiver.answer = answer
    job_id = await ended(home, receiver.url())
    failed = answered(home.jobs, "webhook_failed")
    delivered = answered(home.jobs, "webhook_delivered")

    async with calling(home):
        await failed.reaches(1)
        home.later += 60
        await delivered.reaches(1)

    webhook = (await home.now(job_id)).webhook
    assert [call.headers["webhook-id"] for call in receiver.received] == [job_id] * 2
    assert webhook is not None
    assert webhook.delivered_at is not None
    assert webhook.attempts == 2


async def test_silent_receivers_hold_no_other_up(
    home: House, receiver: Receiver, silent_ports: list[int]
) -> None:
    """All of them are still silent when the last of the others has been told."""
    for port in silent_ports:
        await ended(home, f"http://127.0.0.1:{port}/")
    told = [await ended(home, receiver.url()) for _ in range(10)]
    delivered = answered(home.jobs, "webhook_delivered")
    failed = answered(home.jobs, "webhook_failed")

    async with calling(home):
        await delivered.reaches(len(told))
        assert failed == []

    assert sorted(delivered) == sorted(told)


async def test_a_host_is_called_a_few_times_at_once_and_the_rest_is_put_off_uncounted(
    home: House, receiver: Receiver
) -> None:
    go_on = threading.Event()

    def wait(handler: BaseHTTPRequestHandler, _: Call) -> None:
        go_on.wait(30)
        respond(handler)

    receiver.answer = wait
    jobs = [await ended(home, receiver.url()) for _ in range(3 * FIRST_LIMIT)]
    deferred = answered(home.jobs, "defer_webhooks")
    delivered = answered(home.jobs, "webhook_delivered")

    try:
        async with calling(home):
            await deferred.reaches(1)
            at_once = len(jobs) - len(deferred[0])
            go_on.set()
            await delivered.reaches(at_once)
            home.later += 60
            await delivered.reaches(len(jobs))
    finally:
        go_on.set()

    assert at_once == FIRST_LIMIT
    assert sorted(delivered) == sorted(jobs)
    for job_id in jobs:
        webhook = (await home.now(job_id)).webhook
        assert webhook is not None
        assert webhook.attempts == 1


@pytest.mark.parametrize(
    "host", ["xn--zzzzzzzzzzz", "a" * 64 + ".com", "a..b", "[::1", "\u00fc" * 64 + ".de", "a b", ""]
)
async def test_a_stored_name_that_cannot_be_encoded_holds_no_other_up(
    home: House, receiver: Receiver, host: str
) -> None:
    """They were accepted once, and are due before the others."""
    poison = [await ended(home, f"http://{host}/") for _ in range(40)]
    told = [await ended(home, receiver.url()) for _ in range(5)]
    delivered = answered(home.jobs, "webhook_delivered")
    failed = answered(home.jobs, "webhook_failed")

    async with calling(home):
        await delivered.reaches(len(told))
        await failed.reaches(FIRST_LIMIT)

    assert sorted(delivered) == sorted(told)
    assert set(failed) <= set(poison)


async def test_a_secret_that_cannot_be_opened_is_named_in_the_log_and_holds_no_other_up(
    home: House, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    url, mine = receiver.url(), "whsec_" + "B" * 32
    lost = await ended(home, url, WebhookSecrets(["whsec_" + "C" * 32]).seal(url, [mine]))
    kept = await ended(home, url, WebhookSecrets([SECRET]).seal(url, [mine]))
    delivered = answered(home.jobs, "webhook_delivered")
    failed = answered(home.jobs, "webhook_failed")

    async with calling(home):
        await failed.reaches(1)
        await delivered.reaches(1)

    assert (failed, delivered) == ([lost], [kept])
    assert [call.headers["webhook-id"] for call in receiver.received] == [kept]
    assert "cannot be read: it was sealed under another" in caplog.text
    assert mine not in caplog.text
    webhook = (await home.now(lost)).webhook
    assert webhook is not None
    assert webhook.next_attempt_at is not None


async def test_a_clock_that_is_set_back_stops_no_call(home: House, receiver: Receiver) -> None:
    jobs = [await ended(home, receiver.url()) for _ in range(3)]
    due_webhooks = home.store.due_webhooks

    def set_back(*, now: float, limit: int) -> list[Job]:
        due = due_webhooks(now=now, limit=limit)
        home.later -= 5
        return due

    home.store.due_webhooks = set_back  # type: ignore[method-assign]
    delivered = answered(home.jobs, "webhook_delivered")

    async with calling(home):
        await delivered.reaches(len(jobs))

    assert sorted(delivered) == sorted(jobs)
