"""Whose usage a caller is told, over HTTP."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from sa_ray.access import Keyring
from sa_ray.contracts import UsageRow
from sa_ray.jobs import JobCoordinator, open_job_store
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.ingress.services import of_this_replica
from sa_ray.settings import load_settings
from tests.support.clock import Clock
from tests.support.keys import write_keys

DAY = "2026-01-31"
DAYS = {"from": DAY, "to": "2026-02-01"}

KEYS = (
    {"name": "anna", "scopes": ["generate", "jobs:own"]},
    {"name": "root", "scopes": ["admin"]},
)

ROWS = [
    UsageRow(day=DAY, owner="", variant="medium", requests=1),
    UsageRow(day=DAY, owner="anna", variant="medium", jobs=2, audio_seconds=20.0),
    UsageRow(day=DAY, owner="anna", variant="small-sfx", jobs=1, audio_seconds=1.5, clips=3),
    UsageRow(day="2026-02-01", owner="ben", variant="medium", jobs=1),
]

As = Callable[[str], httpx.AsyncClient]
"""Client with the key of that name."""


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[As]:
    store = open_job_store(f"sqlite:///{tmp_path}/jobs.db")
    jobs = JobCoordinator(store, clock=Clock(1_769_903_990.0), max_queued=1)
    await jobs.add_usage("report", ROWS)
    settings = load_settings({})
    keys = write_keys(tmp_path / "keys.yaml", *KEYS)
    app = build_http_app(settings.edge, settings.limits, Keyring(tmp_path / "keys.yaml"))

    async def services() -> Any:
        return SimpleNamespace(jobs=jobs)

    app.dependency_overrides[of_this_replica] = services

    def with_key(name: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://localhost",
            headers={"Authorization": f"Bearer {keys[name]}"},
        )

    yield with_key
    await jobs.close()


async def told(client: httpx.AsyncClient, **params: str) -> list[dict[str, Any]]:
    answer = await client.get("/v1/usage", params={**DAYS, **params})
    assert answer.status_code == 200, answer.text
    usage: list[dict[str, Any]] = answer.json()["usage"]
    return usage


async def test_a_key_is_told_its_own_usage(ask: As) -> None:
    own = await told(ask("anna"))

    assert own == await told(ask("anna"), key="anna")
    assert own == [
        {
            "day": DAY,
            "key": "anna",
            "requests": 0,
            "jobs": 3,
            "clips": 3,
            "audio_seconds": 21.5,
            "gpu_seconds": 0.0,
            "models": {
                "medium": {
                    "requests": 0, "jobs": 2, "clips": 0, "audio_seconds": 20.0,
                    "gpu_seconds": 0.0,
                },
                "small-sfx": {
                    "requests": 0, "jobs": 1, "clips": 3, "audio_seconds": 1.5,
                    "gpu_seconds": 0.0,
                },
            },
        }
    ]  # fmt: skip


async def test_an_admin_is_told_that_of_all_or_of_one(ask: As) -> None:
    everybody = [(day["day"], day["key"]) for day in await told(ask("root"))]

    assert everybody == [(DAY, None), (DAY, "anna"), ("2026-02-01", "ben")]
    assert [day["key"] for day in await told(ask("root"), key="ben")] == ["ben"]
    assert [day["key"] for day in await told(ask("root"), key="")] == [None]


@pytest.mark.parametrize("key", ["ben", "nobody-at-all", ""])
async def test_that_of_others_is_not_found(ask: As, key: str) -> None:
    refused = await ask("anna").get("/v1/usage", params={**DAYS, "key": key})

    assert refused.status_code == 404
    assert "usage" not in refused.json()


async def test_a_long_report_is_summed_up_beside_the_event_loop() -> None:
    class Rows:
        """Remembers which thread reads it."""

        def __iter__(self) -> Iterator[UsageRow]:
            readers.append(threading.get_ident())
            return iter(ROWS)

    class Jobs:
        async def usage(self, first: str, last: str, owner: str | None) -> Rows:
            return Rows()

    async def services() -> Any:
        return SimpleNamespace(jobs=Jobs())

    readers: list[int] = []
    settings = load_settings({})
    app = build_http_app(settings.edge, settings.limits, Keyring(None))
    app.dependency_overrides[of_this_replica] = services
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert len(await told(client)) == 3

    assert len(readers) == 1
    assert readers != [threading.get_ident()]
