"""Those who wait for jobs: how many may, what they keep free for others, and what each hears."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
import ray

from sa_ray.serving.actors.provision import NAMESPACE, job_actor_spec
from sa_ray.settings import load_settings
from tests.support.service import SLOW, Service

from .conftest import MOST


@pytest.fixture(scope="module")
def few(signing: Service) -> Service:
    """A service in which few may wait."""
    return signing


@pytest.fixture
def slow_job(few: Service) -> str:
    return few.submit(**SLOW)


def events(service: Service, job_id: str, stack: ExitStack) -> httpx.Response:
    url = f"{service.base_url}/jobs/{job_id}/events"
    return stack.enter_context(httpx.stream("GET", url, timeout=60))


def statuses(lines: Iterator[str]) -> list[str]:
    return [json.loads(line[6:])["status"] for line in lines if line.startswith("data: ")]


def test_one_who_waits_too_many_is_refused_and_all_others_are_served(
    few: Service, slow_job: str
) -> None:
    with ExitStack() as stack:
        streams = [events(few, slow_job, stack) for _ in range(MOST)]
        assert [stream.status_code for stream in streams] == [200] * MOST

        refused = [
            few.http.get(f"/jobs/{slow_job}", params={"wait": 60}),
            few.http.get(f"/jobs/{slow_job}/events"),
        ]
        assert few.job(slow_job)["status"] in ("queued", "running")
        assert few.generate(duration=0.5).status_code == 200

    for answer in refused:
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "overloaded"
        assert "STABLE_AUDIO_MAX_WAITING_REQUESTS" in answer.json()["error"]["message"]

    few.until(lambda: few.http.get(f"/jobs/{slow_job}", params={"wait": 0.01}).status_code == 200)
    few.http.delete(f"/jobs/{slow_job}")


def test_all_who_wait_for_a_job_hear_of_its_end(few: Service, slow_job: str) -> None:
    views: list[dict[str, object]] = []

    def wait() -> None:
        url = f"{few.base_url}/jobs/{slow_job}"
        views.append(httpx.get(url, params={"wait": 60}, timeout=90).json())

    with ExitStack() as stack:
        stream = events(few, slow_job, stack)
        waiting = [threading.Thread(target=wait) for _ in range(MOST - 1)]
        for thread in waiting:
            thread.start()
        lines = stream.iter_lines()
        assert next(lines) in ("event: queued", "event: progress")
        few.http.delete(f"/jobs/{slow_job}")
        told = statuses(lines)
        for thread in waiting:
            thread.join()

    assert told[-1] == "cancelled"
    assert [view["status"] for view in views] == ["cancelled"] * (MOST - 1)


def test_head_answers_as_get_without_a_body(few: Service, slow_job: str) -> None:
    job = f"/jobs/{slow_job}"
    for path in ("/health", "/v1/models", "/jobs", job, f"{job}/events", "/openapi.json"):
        answer = few.http.head(path)
        assert (path, answer.status_code, answer.content) == (path, 200, b"")
    assert few.http.head(f"{job}/events").headers["content-type"].startswith("text/event-stream")
    assert few.http.head(f"/jobs/{'0' * 32}").status_code == 404
    assert few.http.head("/generate").status_code == 405
    few.http.delete(job)


def test_urls_are_under_the_prefix_that_a_proxy_took_away(few: Service) -> None:
    headers = {"X-Forwarded-Prefix": "/audio"}
    accepted = few.http.post("/jobs", json={"prompt": "rain", "duration": 0.5}, headers=headers)
    job_id = accepted.json()["id"]
    few.wait_for(job_id)

    view = few.http.get(f"/jobs/{job_id}", headers=headers).json()

    for url in (accepted.headers["location"], view["status_url"]):
        assert url == f"{few.base_url}/audio/jobs/{job_id}"
    assert view["download_url"].startswith(f"{few.base_url}/audio/jobs/")
    assert "/audio/openapi.json" in few.http.get("/docs", headers=headers).text


def test_events_come_to_http_1_0_without_chunks(few: Service, slow_job: str) -> None:
    few.http.delete(f"/jobs/{slow_job}")
    few.wait_for(slow_job)
    address = urlsplit(few.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(f"GET /jobs/{slow_job}/events HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"event: cancelled\ndata: {")


def test_a_stream_tells_the_end_after_the_job_actor_has_been_started_again(
    few: Service, slow_job: str
) -> None:
    name = job_actor_spec(load_settings(few.settings).jobs).name
    told: list[str] = []

    with ExitStack() as stack:
        lines = events(few, slow_job, stack).iter_lines()
        next(lines)
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=False)
        told += statuses(lines)
    while told[-1:] in ([], ["queued"], ["running"]):  # as any client does whose stream was cut
        with ExitStack() as stack:
            told += statuses(events(few, slow_job, stack).iter_lines())

    assert told[-1] == "succeeded"
