"""What a client may ask of a job besides its clip: idempotency, waiting, events, calls back."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from standardwebhooks import Webhook

from tests.support.service import SLOW, Service
from tests.support.webhook_receiver import SECRET, Call, Receiver, receiving, respond


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Answers 503 to the first call of each message."""
    seen: set[str] = set()

    def answer(handler: BaseHTTPRequestHandler, call: Call) -> None:
        message = call.headers["webhook-id"]
        respond(handler, 204 if message in seen else 503)
        seen.add(message)

    with receiving() as running:
        running.answer = answer
        yield running


def test_the_same_key_and_body_return_the_same_job(calling: Service) -> None:
    def submit(key: str, **body: object) -> httpx.Response:
        request = {"prompt": "rain", "duration": 0.5, **body}
        return calling.http.post("/jobs", json=request, headers={"Idempotency-Key": key})

    first, again = submit("a"), submit("a")
    other_key, other_body = submit("b"), submit("a", prompt="wind")

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert other_key.json()["id"] != first.json()["id"]
    assert other_body.status_code == 409
    assert other_body.json()["error"]["code"] == "idempotency_conflict"

    calling.wait_for(first.json()["id"])
    assert submit("a").json()["id"] == first.json()["id"]

    calling.http.delete(f"/jobs/{first.json()['id']}")
    assert submit("a").status_code == 202


def test_one_read_waits_for_the_end(calling: Service) -> None:
    job_id = calling.submit()

    ended = calling.http.get(f"/jobs/{job_id}", params={"wait": 60})

    assert ended.json()["status"] == "succeeded"
    assert calling.http.get(f"/jobs/{job_id}", params={"wait": 1000}).status_code == 422


def read_events(response: httpx.Response) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value
        elif event:
            yield event
            event = {}


def test_events_follow_a_job_to_its_end_and_resume(calling: Service) -> None:
    job_id = calling.submit(**SLOW)
    url = f"{calling.base_url}/jobs/{job_id}/events"

    with httpx.stream("GET", url, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        reading = read_events(response)
        early = next(event for event in reading if json.loads(event["data"])["progress"] > 0)
    with httpx.stream("GET", url, timeout=60, headers={"Last-Event-ID": early["id"]}) as response:
        late = list(read_events(response))

    assert early["event"] == "progress"
    assert early["id"] not in [event["id"] for event in late]
    assert [event["event"] for event in late] == ["progress"] * (len(late) - 1) + ["succeeded"]
    progress = [json.loads(event["data"])["progress"] for event in late]
    assert progress == sorted(progress)

    over = httpx.get(url, headers={"Last-Event-ID": late[-1]["id"]})
    assert over.status_code == 204


def test_a_webhook_is_signed_and_repeated_until_it_is_taken(
    calling: Service, receiver: Receiver
) -> None:
    job_id = calling.submit(webhook_url=receiver.url())

    calls = [receiver.calls.get(timeout=60) for _ in range(2)]

    for _, headers, body in calls:
        event = Webhook(SECRET).verify(body, dict(headers))
        assert event["type"] == "job.succeeded"
        assert event["data"]["id"] == job_id
        assert headers["webhook-id"] == job_id


def test_a_deadline_ends_a_job_with_its_reason(calling: Service) -> None:
    job_id = calling.submit(**SLOW, expires_in=0.2)

    view = calling.wait_for(job_id)

    assert view["status"] == "failed"
    assert view["error_code"] == "deadline_exceeded"
    assert view["expires_at"] is not None


def test_jobs_are_listed_by_status(calling: Service) -> None:
    done = calling.submit()
    calling.wait_for(done)

    listed = calling.http.get("/jobs", params={"status": "succeeded", "limit": 1}).json()["jobs"]

    assert [job["id"] for job in listed] == [done]
    assert calling.http.get("/jobs", params={"status": "sleeping"}).status_code == 422


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": 1e9}, "expires_in"),
        ({"webhook_url": "ftp://example.com"}, "webhook_url"),
        ({"webhook_url": "not a url"}, "webhook_url"),
        ({"webhook_url": "https://example..com/"}, "webhook_url"),
        ({"webhook_url": "https://example.com/", "webhook_secret": "plain"}, "webhook_secret"),
        ({"webhook_secret": SECRET}, "webhook_secret"),
    ],
)
def test_bad_job_options_are_named(calling: Service, fields: dict[str, object], param: str) -> None:
    response = calling.http.post("/jobs", json={"prompt": "rain", **fields})

    assert response.status_code == 422
    assert response.json()["error"]["param"] == param
    assert SECRET not in response.text


def test_job_options_are_not_for_synchronous_requests(calling: Service) -> None:
    response = calling.generate(priority="high")

    assert response.status_code == 422
    assert response.json()["error"]["param"] == "priority"
