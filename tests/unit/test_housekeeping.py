"""Housekeeping after the end of jobs: what it does, and what it does again."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from sa_ray.contracts import AudioFormat, Job, JobView
from sa_ray.errors import JobNotFoundError, JobStoreError, ObjectStoreError
from sa_ray.jobs import JobOptions, JobSnapshot
from sa_ray.jobs.webhook_sender import WebhookSender
from sa_ray.serving.dispatcher.housekeeping import OUTAGE_PERIOD_S, Housekeeping
from sa_ray.serving.job_view import job_view
from sa_ray.storage.local import LocalObjectStore
from tests.support.jobs import RESULT, resolved

from .dispatching import LONG, House, answered, fails_once, house, quickly

SECRET = "whsec_" + "A" * 32
EIGHT_DAYS = 8 * 86_400.0


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


class Receiver(BaseHTTPRequestHandler):
    """Answers each call with the next of ``answers``, then with 204."""

    answers: Iterator[int]
    received: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.received.append(body["type"])
        self.send_response(next(self.answers, 204))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[type[Receiver], str]]:
    kind = type("ThisReceiver", (Receiver,), {"answers": iter(()), "received": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    Thread(target=server.serve_forever, daemon=True).start()
    yield kind, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextmanager
def kept(home: House, sleep: Callable[[float], Awaitable[None]] = quickly) -> Iterator[None]:
    store = LocalObjectStore(home.uploader.folder)

    def view(job: Job) -> JobView:
        return job_view(JobSnapshot(job, None), base_url="", store=store)

    keeping = Housekeeping(
        home.jobs,
        home.uploader,  # type: ignore[arg-type] # nobody downloads here
        WebhookSender(SECRET, allow_private=True),
        view,
        sleep=sleep,
    )
    tasks = [asyncio.create_task(loop) for loop in keeping.loops()]
    try:
        yield
    finally:
        for task in tasks:
            assert not task.done()
            task.cancel()


async def unclean(home: House) -> Job:
    """A job that was cancelled while a worker had it, and an object it has left."""
    job = await home.leased()
    home.uploader.folder.mkdir(exist_ok=True)
    (home.uploader.folder / f"{job.id}.wav").write_bytes(b"stray")
    await home.jobs.cancel(job.id)
    return await home.jobs.acknowledge_cancel(job.id, job.token)


async def test_what_a_cancelled_job_left_is_deleted(home: House) -> None:
    job = await unclean(home)
    cleaned = answered(home.jobs, "cleaned")

    with kept(home):
        await cleaned.reaches(1)

    assert cleaned == [job.id]
    assert await home.jobs.unclean_jobs(1) == []
    assert home.uploader.objects() == []


async def test_a_job_that_fails_keeps_no_other_of_its_round_from_being_handled(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, other = await unclean(home), await unclean(home)
    discard = home.uploader.discard
    cleaned = answered(home.jobs, "cleaned")
    handled: list[str] = []
    round_over = asyncio.Event()

    async def discard_one(job_id: str, fmt: AudioFormat) -> None:
        if job_id == failing.id:
            raise ObjectStoreError("Not this one.")
        await discard(job_id, fmt)

    async def sleep(seconds: float) -> None:
        if seconds == OUTAGE_PERIOD_S:
            handled.extend(cleaned)
            round_over.set()
            await asyncio.Event().wait()
        await quickly(seconds)

    monkeypatch.setattr(home.uploader, "discard", discard_one)

    with kept(home, sleep):
        async with asyncio.timeout(LONG):
            await round_over.wait()

    assert handled == [other.id]


@pytest.mark.parametrize("store", ["jobs", "objects"])
async def test_after_a_failure_the_pause_is_longer(home: House, store: str) -> None:
    await unclean(home)
    cleaned = answered(home.jobs, "cleaned")
    if store == "jobs":
        fails_once(home.jobs, "unclean_jobs", JobStoreError("The job store is away."))
    else:
        fails_once(home.uploader, "discard", ObjectStoreError("The store is away."))
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await quickly(seconds)

    with kept(home, sleep):
        await cleaned.reaches(1)

    assert pauses.count(OUTAGE_PERIOD_S) == 1


async def test_a_job_goes_with_its_audio_when_its_time_is_over(home: House) -> None:
    job = await home.leased()
    home.uploader.folder.mkdir()
    (home.uploader.folder / f"{job.id}.wav").write_bytes(b"sound")
    await home.jobs.succeed(job.id, job.token, RESULT)

    home.later += EIGHT_DAYS
    forgotten = answered(home.jobs, "forget")

    with kept(home):
        await forgotten.reaches(1)

    with pytest.raises(JobNotFoundError):
        await home.now(job.id)
    assert home.uploader.objects() == []


async def test_a_job_stays_while_its_audio_cannot_be_deleted(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await home.leased()
    await home.jobs.succeed(job.id, job.token, RESULT)
    home.later += EIGHT_DAYS
    tried = asyncio.Event()

    async def away(*_: object) -> None:
        tried.set()
        raise ObjectStoreError("The store is away.")

    monkeypatch.setattr(home.uploader, "discard", away)

    with kept(home):
        async with asyncio.timeout(LONG):
            await tried.wait()
            tried.clear()
            await tried.wait()

    assert (await home.now(job.id)).status == "succeeded"


async def test_a_webhook_is_called_until_its_receiver_takes_it(
    home: House, receiver: tuple[type[Receiver], str]
) -> None:
    kind, url = receiver
    kind.answers = iter([500])
    options = JobOptions(webhook_url=url)
    job_id = (await home.jobs.submit(uuid4().hex, resolved(), options)).job.id
    await home.jobs.cancel(job_id)
    failed = answered(home.jobs, "webhook_failed")
    delivered = answered(home.jobs, "webhook_delivered")

    with kept(home):
        await failed.reaches(1)
        home.later += 60
        await delivered.reaches(1)

    webhook = (await home.now(job_id)).webhook
    assert kind.received == ["job.cancelled"] * 2
    assert webhook is not None
    assert webhook.delivered_at is not None
    assert webhook.attempts == 2
