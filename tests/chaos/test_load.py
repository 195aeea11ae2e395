"""Load, a step of the clock and broken replicas: none of them costs a job."""

import asyncio
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .cluster import ServiceCluster
from .conftest import Deploy
from .rows import BookedService, Row, attempts

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

CLOCK_STEP_S = 15.0
FLOOD = 500
FLOOD_CLIENTS = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load")


@pytest.fixture(scope="module")
def marker(folder: Path) -> Path:
    """Removed, it breaks a replica of small-sfx."""
    (folder / "marker").touch()
    return folder / "marker"


@pytest.fixture(scope="module")
def service(deploy: Deploy, folder: Path, marker: Path) -> BookedService:
    return deploy(folder, breaking=marker)


def test_the_clock_is_stepped(service: BookedService, cluster: ServiceCluster) -> None:
    row = Row(service, "clock, 15 s forward and back")

    steps = iter((CLOCK_STEP_S, 0.0))
    try:
        for _ in row.moments(2):
            cluster.step_clock(next(steps))
    finally:
        cluster.step_clock(0.0)

    outcomes = row.finish()
    row.tidy()

    assert attempts(outcomes) == {1}


def test_submits_flood_the_service(service: BookedService) -> None:
    row = Row(service, f"nobody; {FLOOD:,} submits by {FLOOD_CLIENTS} clients at once")

    for _ in row.moments(1):
        asyncio.run(flood(service.base_url))

    outcomes = row.finish()
    row.tidy()

    assert attempts(outcomes) == {1}


async def flood(base_url: str) -> None:
    """Submit jobs for a model that has no replica and is not in the load, and delete them again.

    By aiohttp: httpx took a minute of processor time to share out its connections.
    """
    body = {"prompt": "rain", "model": "medium", "duration": 1, "priority": "low"}
    run = uuid.uuid4().hex
    places = aiohttp.TCPConnector(limit=FLOOD_CLIENTS)
    async with aiohttp.ClientSession(base_url, connector=places) as http:

        async def send(method: str, path: str, **content: Any) -> tuple[int, Any]:
            while True:
                async with http.request(method, path, **content) as response:
                    if response.ok or response.status == HTTPStatus.NOT_FOUND:
                        empty = response.status == HTTPStatus.NO_CONTENT
                        return response.status, None if empty else await response.json()
                    refused = response.status >= HTTPStatus.TOO_MANY_REQUESTS
                    assert refused, await response.text()
                await asyncio.sleep(float(response.headers["Retry-After"]))

        async def submit(number: int) -> str:
            headers = {"Idempotency-Key": f"{run}-{number}"}  # an error does not say: not accepted
            _, accepted = await send("POST", "/jobs", json=body, headers=headers)
            return str(accepted["id"])

        async def delete(job_id: str) -> None:
            # Cancelled first, or about to be.
            while (await send("DELETE", f"/jobs/{job_id}"))[0] == HTTPStatus.OK:
                pass

        job_ids = await asyncio.gather(*map(submit, range(FLOOD)))
        await asyncio.gather(*map(delete, job_ids))


def test_a_replica_fails_every_batch(service: BookedService, marker: Path) -> None:
    row = Row(service, "variant replica, failing every batch")

    for _ in row.moments(1):
        marker.unlink()

    outcomes = row.finish()
    row.tidy()

    assert marker.exists(), "no replica broke"
    assert any(o.view["attempts"] > 1 for o in outcomes if o.view and o.succeeded)


def test_a_replica_loses_its_device(service: BookedService, marker: Path) -> None:
    row = Row(service, "variant replica, its device lost")
    (marker.parent / "device").touch()

    for _ in row.moments(2):
        service.until(marker.exists)  # as the replica has broken that was told to
        marker.unlink()

    outcomes = row.finish()
    row.tidy()

    assert marker.exists(), "no replica broke"
    assert any(o.view["attempts"] > 1 for o in outcomes if o.view and o.succeeded)
