"""A model that cannot start, and somebody who fills its queue, keep nobody else waiting."""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sa_ray.local import LocalService
from tests.support.service import Service, local_settings

pytestmark = pytest.mark.attack

LIMIT = 200
"""Filled well before ``PLACE_PATIENCE_S``, after which the flood would be answered 503."""
MAX_WAIT_S = 45.0
"""Longer than the flood takes, and than the jobs for other models after it."""
NO_NODE_HAS = {"medium": {"cpu": 100_000, "max_batch_rows": 1, "grace_seconds": 1}}
"""The grace: Serve gives a replica that was never placed as long to stop as one that works."""

FLOOD = LIMIT + 100
ONE: dict[str, Any] = {"prompt": "rain", "duration": 0.5}
HOPELESS = {**ONE, "model": "medium", "priority": "high"}
KEY = {"Idempotency-Key": "the first of the flood"}


@dataclass(frozen=True)
class Flooded:
    """A service, and what it answered to a flood of jobs for a model that no node can hold."""

    service: Service
    first: str
    answers: list[httpx.Response]

    @property
    def accepted(self) -> list[str]:
        return [answer.json()["id"] for answer in self.answers if answer.status_code == 202]

    @property
    def refused(self) -> list[httpx.Response]:
        return [answer for answer in self.answers if answer.status_code != 202]


async def flood(base_url: str) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=60) as client:
        return await asyncio.gather(*(client.post("/jobs", json=HOPELESS) for _ in range(FLOOD)))


@pytest.fixture(scope="module")
def flooded() -> Iterator[Flooded]:
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder = Path(name)
        args = {
            **local_settings(folder),
            "variants": NO_NODE_HAS,
            "max_queued_jobs": LIMIT,
            "job_max_wait": MAX_WAIT_S,
        }
        with LocalService(folder, args) as local:
            local.wait_until_ready()
            service = Service(local.base_url, args)
            first = service.http.post("/jobs", json=HOPELESS, headers=KEY).json()["id"]
            yield Flooded(service, first, asyncio.run(flood(local.base_url)))


def test_the_flood_fills_the_queue_of_its_model_and_is_told_so(flooded: Flooded) -> None:
    assert {answer.status_code for answer in flooded.refused} == {429}
    assert LIMIT <= 1 + len(flooded.accepted) <= LIMIT + 8, "those leased wait no longer"
    refused = flooded.refused[0]
    error = refused.json()["error"]
    assert error["code"] == "queue_full"
    assert int(refused.headers["Retry-After"]) > 0
    for word in ("medium", str(LIMIT), "STABLE_AUDIO_MAX_QUEUED_JOBS"):
        assert word in error["message"]


def test_jobs_for_other_models_are_taken_and_done_meanwhile(flooded: Flooded) -> None:
    service = flooded.service
    others = [service.submit(**ONE, model=model) for model in ("small-sfx", "small-music")]

    assert [service.wait_for(job_id)["status"] for job_id in others] == ["succeeded"] * 2
    assert service.job(flooded.accepted[-1])["status"] == "queued"


def test_more_jobs_for_it_are_refused_once_no_node_can_hold_it(flooded: Flooded) -> None:
    service = flooded.service
    service.until(lambda: service.health().status == "degraded")

    refused = service.http.post("/jobs", json=HOPELESS)
    repeated = service.http.post("/jobs", json=HOPELESS, headers=KEY)
    other = service.submit(**ONE)

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["code"] == "unavailable"
    assert "medium" in refused.json()["error"]["message"]
    assert "100" not in refused.json()["error"]["message"]
    assert (repeated.status_code, repeated.json()["id"]) == (200, flooded.first)
    assert service.wait_for(other)["status"] == "succeeded"


def test_jobs_that_have_waited_their_time_end_and_tell_why(flooded: Flooded) -> None:
    service = flooded.service
    with service.http.stream("GET", f"/jobs/{flooded.accepted[-1]}/events") as events:
        told = [line for line in events.iter_lines() if line.startswith("event:")]

    service.until(lambda: (service.health().queued_jobs, service.health().running_jobs) == (0, 0))
    failed = {job["id"]: job for job in listed(service, "failed")}

    assert told[-1] == "event: failed"
    assert failed.keys() == {flooded.first, *flooded.accepted}
    assert {job["error_code"] for job in failed.values()} == {"wait_exceeded"}
    assert "STABLE_AUDIO_JOB_MAX_WAIT" in failed[flooded.first]["error"]


def listed(service: Service, status: str) -> Iterator[dict[str, Any]]:
    """All jobs of the status."""
    query: dict[str, str | int] = {"status": status, "limit": 200}
    while True:
        page = service.http.get("/jobs", params=query).raise_for_status().json()
        yield from page["jobs"]
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]
