"""Housekeeping after the end of jobs: what it does, and what it does again."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from sa_ray.contracts import Job, JobView
from sa_ray.errors import JobNotFoundError, ObjectStoreError
from sa_ray.jobs import JobOptions, JobSnapshot
from sa_ray.jobs.webhook_sender import WebhookSender
from sa_ray.serving.dispatcher.housekeeping import Housekeeping
from sa_ray.serving.job_view import job_view
from sa_ray.storage.local import LocalObjectStore
from tests.support.jobs import RESULT, resolved

from .dispatching import LONG, House, house, quickly

SECRET = "whsec_" + "A" * 32
A_WEEK = 8 * 86_400.0


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
def kept(home: House) -> Iterator[None]:
    store = LocalObjectStore(home.uploader.folder)

    def view(job: Job) -> JobView:
        return job_view(JobSnapshot(job, None), base_url="", store=store)

    keeping = Housekeeping(
        home.jobs,
        home.uploader,  # type: ignore[arg-type] # nobody downloads here
        WebhookSender(SECRET, allow_private=True),
        view,
        sleep=quickly,
    )
    tasks = [asyncio.create_task(loop) for loop in keeping.loops()]
    try:
        yield
    finally:
        for task in tasks:
            assert not task.done()
            task.cancel()


async def test_what_a_cancelled_job_left_is_deleted(home: House) -> None:
    job = await home.leased()
    home.uploader.folder.mkdir()
    (home.uploader.folder / f"{job.id}.wav").write_bytes(b"stray")
    await home.jobs.cancel(job.id)
    await home.jobs.acknowledge_cancel(job.id, job.token)

    with kept(home):
        async with asyncio.timeout(LONG):
            while await home.jobs.unclean_jobs(1):
                await asyncio.sleep(0.005)

    assert home.uploader.objects() == []


async def test_a_job_goes_with_its_audio_when_its_time_is_over(home: House) -> None:
    job = await home.leased()
    home.uploader.folder.mkdir()
    (home.uploader.folder / f"{job.id}.wav").write_bytes(b"sound")
    await home.jobs.succeed(job.id, job.token, RESULT)

    home.later += A_WEEK
    with kept(home):
        async with asyncio.timeout(LONG):
            while not isinstance((await home.jobs.get_all([job.id]))[0], JobNotFoundError):
                await asyncio.sleep(0.005)

    assert home.uploader.objects() == []


async def test_a_job_stays_while_its_audio_cannot_be_deleted(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await home.leased()
    await home.jobs.succeed(job.id, job.token, RESULT)
    home.later += A_WEEK
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

    with kept(home):
        async with asyncio.timeout(LONG):
            while (webhook := (await home.now(job_id)).webhook) is None or not webhook.error:
                await asyncio.sleep(0.005)
            home.later += 60
            while (webhook := (await home.now(job_id)).webhook) is None or not webhook.delivered_at:
                await asyncio.sleep(0.005)

    assert kind.received == ["job.cancelled"] * 2
    assert webhook.attempts == 2
