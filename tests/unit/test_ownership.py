"""What callers see of each other's jobs: nothing, on any route."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import JobError
from sa_ray.contracts.access import ANYBODY, NOBODY, Caller
from sa_ray.jobs import JobCoordinator, open_job_store
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.scheduling.costs import cost_of
from sa_ray.serving.actors.uploader import Uploader
from sa_ray.serving.deployment_options import estimator
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.ingress.auth import CALLER
from sa_ray.serving.ingress.clients import ClientShares
from sa_ray.serving.ingress.grouped_calls import GroupedCalls
from sa_ray.serving.ingress.health import HealthMonitor
from sa_ray.serving.ingress.services import Services, of_this_replica
from sa_ray.serving.ingress.sync_generation import SyncGeneration
from sa_ray.serving.ingress.uploads import ClientUploads
from sa_ray.serving.job_view import JobViews
from sa_ray.settings import load_settings
from sa_ray.storage import ObjectStores
from tests.support.asgi_server import served
from tests.support.clock import Clock
from tests.support.jobs import feed_of

CALLERS = {
    "ann": Caller(name="ann", scopes=frozenset({"generate", "jobs:own"})),
    "bob": Caller(name="bob", scopes=frozenset({"generate", "jobs:own"})),
    "boss": Caller(name="boss", scopes=frozenset({"generate", "jobs:all"})),
    "root": Caller(name="root", scopes=frozenset({"admin"})),
    "nobody": NOBODY,
    "anybody": ANYBODY,
}
REQUEST = {"prompt": "rain", "duration": 1, "model": "small-sfx", "seed": 1}
UNKNOWN = "0" * 32


class Callers:
    """Names the caller of each request by a header, as the guard does by its key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = dict(scope["headers"]).get(b"x-test-caller", b"anybody").decode()
        await self._app({**scope, CALLER: CALLERS[name]}, receive, send)


class Serving:
    """What Serve says of its replicas, where there is no Serve: all is well."""

    state = "ready"

    def variant(self, _name: str) -> "Serving":
        return self


@dataclass
class Site:
    jobs: JobCoordinator
    services: Services
    base_url: str

    def client(self, name: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.base_url, headers={"x-test-caller": name}, timeout=60
        )


@asynccontextmanager
async def site_of(folder: Path, clock: Clock) -> AsyncIterator[Site]:
    settings = load_settings({"output_dir": str(folder / "audio"), "engine": "procedural"})
    jobs = JobCoordinator(
        open_job_store(f"sqlite:///{folder}/jobs.db"), clock=clock, max_queued=100
    )
    uploader = Uploader.__new__(Uploader)
    await Uploader.__init__(uploader, settings.storage, "test")  # type: ignore[misc]
    stores = ObjectStores(settings.storage)
    read_job = GroupedCalls(jobs.get_all)
    health = cast(HealthMonitor, Serving())
    services = Services(
        models=settings.models,
        limits=settings.limits,
        webhooks=WebhookSecrets(["whsec_" + base64.b64encode(b"o" * 32).decode()]),
        engine="procedural",
        estimators={
            name: estimator(settings.models.spec(name), cost_of(name, "procedural", gpu=False))
            for name in VARIANTS
        },
        generation=SyncGeneration({}, health),
        jobs=jobs,  # type: ignore[arg-type]
        submit_job=GroupedCalls(jobs.submit_all),
        submit_of_batch=GroupedCalls(jobs.submit_all, under_way=1),
        read_job=read_job,
        job_feed=feed_of(jobs),
        uploader=uploader,  # type: ignore[arg-type]
        uploads=ClientUploads(uploader, jobs, 1, 60.0),  # type: ignore[arg-type]
        views=JobViews(stores),
        health=health,
        clients=ClientShares(100),
    )
    app = build_http_app(settings.edge, settings.limits)

    async def ours() -> Services:
        return services

    app.dependency_overrides[of_this_replica] = ours
    async with served(Callers(app)) as port:
        try:
            yield Site(jobs, services, f"http://127.0.0.1:{port}")
        finally:
            await jobs.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_of(tmp_path, Clock()) as made:
        yield made


async def submitted(site: Site, name: str, key: str | None = None) -> str:
    async with site.client(name) as client:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await client.post("/jobs", json=REQUEST, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        job_id: str = answer.json()["id"]
        return job_id


ROUTES = [
    ("GET", "/jobs/{id}"),
    ("GET", "/jobs/{id}?wait=60"),
    ("GET", "/jobs/{id}/audio"),
    ("GET", "/jobs/{id}/events"),
    ("DELETE", "/jobs/{id}"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_anothers_job_is_as_unknown_as_none(site: Site, method: str, path: str) -> None:
    foreign = [await submitted(site, name) for name in ("ann", "boss", "anybody")]

    async with site.client("bob") as bob, site.client("nobody") as nobody:
        for client in (bob, nobody):
            none = await client.request(method, path.format(id=UNKNOWN))
            for job_id in foreign:
                answer = await client.request(method, path.format(id=job_id))
                assert answer.status_code == none.status_code == 404
                told, expected = answer.json()["error"], none.json()["error"]
                assert told["message"].replace(job_id, UNKNOWN) == expected["message"]
                assert (told["code"], told["param"]) == (expected["code"], expected["param"])

    for job_id in foreign:
        assert (await site.jobs.get(job_id)).job.status == "queued"


@pytest.mark.parametrize("name", ["ann", "boss", "root", "anybody"])
async def test_ones_own_job_is_there_and_all_are_with_the_scope(site: Site, name: str) -> None:
    job_id = await submitted(site, "ann")

    async with site.client(name) as client:
        assert (await client.get(f"/jobs/{job_id}")).json()["id"] == job_id
        assert (await client.delete(f"/jobs/{job_id}")).json()["status"] == "cancelled"
        assert (await client.delete(f"/jobs/{job_id}")).status_code == 204


async def test_lists_have_ones_own_jobs(site: Site) -> None:
    made = {name: await submitted(site, name) for name in ("ann", "bob", "anybody", "boss")}

    async def listed(name: str, query: str = "") -> set[str]:
        async with site.client(name) as client:
            jobs = (await client.get(f"/jobs{query}")).json()["jobs"]
        return {job["id"] for job in jobs}

    assert await listed("ann") == {made["ann"]}
    assert await listed("bob", "?status=queued") == {made["bob"]}
    assert await listed("bob", "?status=failed") == set()
    for name in ("boss", "root", "anybody"):
        assert await listed(name) == set(made.values())


async def test_an_idempotency_key_finds_ones_own_job(site: Site) -> None:
    first = {name: await submitted(site, name, "key") for name in ("ann", "bob", "anybody")}

    assert len(set(first.values())) == 3
    assert {name: await submitted(site, name, "key") for name in first} == first


async def test_jobs_of_a_batch_have_an_owner(site: Site) -> None:
    async with site.client("ann") as ann:
        answer = await ann.post("/jobs/batch", json={"requests": [REQUEST, REQUEST]})
    for job in answer.json()["jobs"]:
        assert (await site.jobs.get(job["id"])).job.owner == "ann"


async def test_a_stream_ends_where_the_caller_may_not_know_of_the_job_any_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submitted(site, "ann")

    async with site.client("ann") as ann, ann.stream("GET", f"/jobs/{job_id}/events") as stream:
        events = stream.aiter_lines()
        async with aclosing(events):
            assert [await anext(events)] == ["event: queued"]
            monkeypatch.setattr(
                "sa_ray.serving.ingress.job_lookup.still_calls", lambda http: NOBODY
            )
            [held] = await site.jobs.lease("small-sfx", "w", 1)
            await site.jobs.fail(job_id, held.token, JobError(code="c", message="secret"))
            assert "secret" not in "".join([line async for line in events])


async def test_a_long_poll_answers_404_then(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await submitted(site, "ann")

    async with site.client("ann") as ann:
        waiting = asyncio.create_task(ann.get(f"/jobs/{job_id}?wait=60"))
        while not site.services.job_feed.watchers:
            await asyncio.sleep(0.01)
        monkeypatch.setattr("sa_ray.serving.ingress.job_lookup.still_calls", lambda http: NOBODY)
        await site.jobs.cancel(job_id)
        assert (await waiting).status_code == 404


async def test_one_job_waits_for_none_of_anothers_batch(site: Site) -> None:
    async with site.client("ann") as ann:
        batch = {"requests": [REQUEST | {"duration": 30}] * 40}
        assert (await ann.post("/jobs/batch", json=batch)).status_code == 202
    [first] = await site.jobs.lease("small-sfx", "w", 1)
    assert first.owner == "ann"

    job_id = await submitted(site, "bob")

    async with site.client("bob") as bob:
        assert (await bob.get(f"/jobs/{job_id}")).json()["queue_position"] <= 2
    leased = await site.jobs.lease("small-sfx", "w", 2)
    assert job_id in {job.id for job in leased}
