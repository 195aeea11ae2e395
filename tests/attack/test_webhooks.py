"""Webhooks: nobody speaks for another, stops the calls, or sends them inside the network."""

import base64
import json
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sa_ray.jobs import JobOptions, lifecycle, open_job_store
from sa_ray.local import LocalService
from tests.support.commands import MARK, marked
from tests.support.jobs import insert, resolved
from tests.support.secret_settings import environment
from tests.support.service import Service, local_settings
from tests.support.webhook_receiver import Receiver, receiving, verified

from .conftest import Target, private_folder

pytestmark = pytest.mark.attack

PATIENCE_S = 60

POISON = (
    "http://xn--zzzzzzzzzzz/",
    "http://" + "a" * 64 + ".com/",
    "http://a..b/",
    "http://" + "\u00fc" * 64 + ".de/",
    "http://[::1/",
    "http://\u3002\u3002/",
    "http://[fe80::1%25eth0]/",
)
"""Names that the codec of IDNA cannot encode, and others that nobody can call."""

INSIDE = (
    *("127.0.0.1", "localhost", "localhost.", "127.1", "0", "0x7f.1", "2130706433", "[::1]"),
    *("[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fec0::1]"),
    *("169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200", "[fd00:ec2::254]"),
    *("[::ffff:168.63.129.16]", "[64:ff9b::a83f:8110]"),
)
"""The service's own addresses, and those of the clouds' metadata services, in several forms."""


def secret(letter: str) -> str:
    return "whsec_" + base64.b64encode(letter.encode() * 32).decode()


OPERATOR, ALICE, NEXT, MALLORY = (secret(letter) for letter in "oanm")


@dataclass(frozen=True)
class Calling:
    """A service that calls webhooks."""

    service: Service
    folder: Path
    private: Path
    """The folder of its Ray, with all logs but the service's."""

    def webhooks(self, *job_ids: str) -> list[dict[str, Any]]:
        """What the job store holds of the webhooks of jobs."""
        with closing(sqlite3.connect(self.folder / "jobs.db")) as database:
            rows = [
                database.execute("SELECT body FROM jobs WHERE id = ?", (job_id,)).fetchone()
                for job_id in job_ids
            ]
        return [json.loads(body)["webhook"] for (body,) in rows]


def test_no_call_reaches_an_address_inside_the_network(target: Target, receiver: Receiver) -> None:
    service = Service(target.service.base_url, local_settings(target.folder))
    calling = Calling(service, target.folder, target.private)
    own = f"{service.base_url}/jobs"
    urls = [own, *(receiver.url(host) for host in INSIDE)]

    jobs = [service.submit(webhook_url=url) for url in urls]
    service.until(lambda: all(one["error"] for one in calling.webhooks(*jobs)))

    errors = {one["url"]: one["error"] for one in calling.webhooks(*jobs)}
    assert receiver.received == []
    refused = [url for url in urls if "is not public" in errors[url] or "clouds" in errors[url]]
    assert refused == urls, errors
    newest = service.http.get(f"/jobs?limit={len(jobs)}").json()["jobs"]
    assert [job["id"] for job in newest] == jobs[::-1], "the call to its own jobs made none"


def poisoned(jobs_url: str) -> None:
    """Fill the store with ended jobs whose webhooks have been due for long."""
    store = open_job_store(jobs_url)
    for number in range(100):
        options = JobOptions(webhook_url=POISON[number % len(POISON)])
        job = lifecycle.new_job(uuid.uuid4().hex, resolved(), time.time() - 60, options)
        insert(store, job)
        assert store.replace(lifecycle.cancel(job, time.time() - 60))
    store.close()


@pytest.fixture(scope="module")
def calling() -> Iterator[Calling]:
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="attack-") as name, ExitStack() as stack:
        folder = Path(name)
        settings = local_settings(folder) | {"webhook_allow_private": True}
        poisoned(settings["jobs_url"])
        with environment({MARK: mark, "STABLE_AUDIO_WEBHOOK_SECRET": OPERATOR}):
            local = stack.enter_context(LocalService(folder, settings))
        local.wait_until_ready()
        private = private_folder(marked(mark))
        yield Calling(Service(local.base_url, settings), folder, private)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def test_names_that_cannot_be_encoded_stop_no_call(calling: Calling, receiver: Receiver) -> None:
    """The store of ``calling`` is full of them; clients can add none."""
    service = calling.service
    answers = [
        service.http.post("/jobs", json={"prompt": "rain", "webhook_url": url}) for url in POISON
    ]
    lone = b'{"prompt": "rain", "webhook_url": "http://\\ud800.com/"}'
    json_type = {"Content-Type": "application/json"}
    answers.append(service.http.post("/jobs", content=lone, headers=json_type))

    jobs = [service.submit(webhook_url=receiver.url()) for _ in range(5)]
    told = {receiver.calls.get(timeout=PATIENCE_S).headers["webhook-id"] for _ in jobs}

    assert told == set(jobs)
    assert {answer.status_code for answer in answers} == {422}, [one.text for one in answers]
    assert {answer.json()["error"]["param"] for answer in answers} == {"webhook_url"}


def test_nobody_can_have_a_call_signed_to_anothers_receiver(
    calling: Calling, receiver: Receiver
) -> None:
    service, url = calling.service, receiver.url()
    hers = service.submit(webhook_url=url, webhook_secret=ALICE)
    changing_over = service.submit(webhook_url=url, webhook_secret=[NEXT, ALICE])
    strangers = [
        service.submit(webhook_url=url),
        service.submit(webhook_url=url, webhook_secret=MALLORY),
        service.submit(webhook_url=url, webhook_secret=[MALLORY, secret("x")]),
    ]

    calls = [receiver.calls.get(timeout=PATIENCE_S) for _ in range(5)]

    taken_by = {call.headers["webhook-id"]: verified(call, ALICE, NEXT) for call in calls}
    assert [taken_by.pop(job) for job in (hers, changing_over)] == [[True, False], [True, True]]
    assert taken_by == {job: [False, False] for job in strangers}


def test_a_receivers_secret_is_read_nowhere(calling: Calling, receiver: Receiver) -> None:
    service, marker = calling.service, secret("R")
    body = {"prompt": "rain", "duration": 0.5, "webhook_url": receiver.url()}
    key = {"Idempotency-Key": "repeated"}

    def submit(**fields: object) -> Any:
        return service.http.post("/jobs", json=body | fields, headers=key)

    first = submit(webhook_secret=marker)
    job_id = first.json()["id"]
    receiver.calls.get(timeout=PATIENCE_S)
    answers = [
        first,
        submit(webhook_secret=[marker]),
        submit(webhook_secret=MALLORY),
        submit(),
        submit(webhook_secret=marker, webhook_url=None),
        submit(webhook_secret=[marker, marker + "!"]),
        submit(webhook_secret=marker * 2),
        submit(webhook_secret=marker, webhook_url="http://a..b/"),
        submit(webhookSecret=marker),
        service.http.post("/generate", json={"prompt": "rain", "webhook_secret": marker}),
        *(service.http.get(path) for path in ("/jobs", f"/jobs/{job_id}", "/openapi.json")),
    ]

    statuses = [answer.status_code for answer in answers]
    assert statuses == [202, 200, 409, 409, *[422] * 6, 200, 200, 200]
    hidden = marker.removeprefix("whsec_").rstrip("=")[:20]
    assert [answer.url for answer in answers if hidden in answer.text] == []
    files = [path for top in (calling.folder, calling.private) for path in top.rglob("*")]
    read = {}
    for path in filter(Path.is_file, files):
        with suppress(FileNotFoundError):  # it is gone meanwhile
            read[path] = path.read_bytes()
    assert any("jobs.db" in path.name for path in read)
    assert any("dispatcher" in path.name for path in read)
    assert [path for path, content in read.items() if hidden.encode() in content] == []
