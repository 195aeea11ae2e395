"""What callers see of each other's jobs: nothing, on any route."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from sa_ray.access import Keyring
from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import JobError, JobResult, ReadAudio, StoredClip
from sa_ray.jobs import JobCoordinator, UsageMeter, open_job_store
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.scheduling.costs import cost_of
from sa_ray.serving.actors.uploader import Uploader
from sa_ray.serving.deployment_options import estimator
from sa_ray.serving.ingress.adapters import ClientAdapters
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.ingress.clients import ClientShares
from sa_ray.serving.ingress.grouped_calls import GroupedCalls
from sa_ray.serving.ingress.health import HealthMonitor
from sa_ray.serving.ingress.services import Services, of_this_replica
from sa_ray.serving.ingress.sync_generation import SyncGeneration
from sa_ray.serving.ingress.uploads import ClientUploads
from sa_ray.serving.job_view import JobViews
from sa_ray.serving.links import Links
from sa_ray.serving.messages import EncodedAudio
from sa_ray.settings import load_settings
from sa_ray.storage import Inputs, ObjectStores, open_adapters
from sa_ray.storage.port import ObjectStore
from tests.support.asgi_server import served
from tests.support.clock import Clock
from tests.support.jobs import RESULT, feed_of
from tests.support.keys import put_keys, write_keys

KEYS: list[dict[str, Any]] = [
    {"name": "ann"},
    {"name": "bob"},
    {"name": "boss", "scopes": ["generate", "jobs:all"]},
    {"name": "root", "scopes": ["admin"]},
    {"name": "few", "limits": {"queued_jobs": 2}},
    {"name": "brief", "limits": {"audio_seconds_per_day": 2.5}},
]
"""Keys; besides them there is ``anybody``, who comes to an ingress without keys."""

REQUEST = {"prompt": "rain", "duration": 1, "model": "small-sfx", "seed": 1}
UNKNOWN = "0" * 32


class Serving:
    """What Serve says of its replicas, where there is no Serve: all is well."""

    state = "ready"

    def variant(self, _name: str) -> "Serving":
        return self


@dataclass
class Site:
    jobs: JobCoordinator
    services: Services
    inputs: Inputs
    store: ObjectStore
    keys: Path
    keyring: Keyring
    secrets: dict[str, str]
    with_keys: str
    without: str

    def client(self, name: str) -> httpx.AsyncClient:
        headers = {"xi-api-key": self.secrets.get(name, "")}
        url = self.without if name == "anybody" else self.with_keys
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=60)

    def revoke_all(self) -> None:
        put_keys(self.keys, [])
        self.keyring.look()


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
    links = Links(jobs.secret, 60.0, clock)
    health = cast(HealthMonitor, Serving())
    secrets = write_keys(folder / "keys.yaml", *KEYS)
    keyring = Keyring(folder / "keys.yaml")
    services = Services(
        models=settings.models,
        limits=settings.limits,
        webhooks=WebhookSecrets(["whsec_" + base64.b64encode(b"o" * 32).decode()]),
        engine="procedural",
        estimators={
            name: estimator(settings.models.spec(name), cost_of(name, "procedural", gpu=False))
            for name in VARIANTS
        },
        generation=SyncGeneration({}, health, UsageMeter(jobs.add_usage)),
        jobs=jobs,  # type: ignore[arg-type]
        submit_job=GroupedCalls(jobs.submit_all),
        submit_of_batch=GroupedCalls(jobs.submit_all, under_way=1),
        read_job=read_job,
        job_feed=feed_of(jobs),
        uploader=uploader,  # type: ignore[arg-type]
        uploads=ClientUploads(uploader, jobs, 1, 60.0),  # type: ignore[arg-type]
        adapters=ClientAdapters(open_adapters(settings.storage)),
        links=links,
        views=JobViews(stores, links),
        health=health,
        clients=ClientShares(100),
        keyring=keyring,
    )
    apps = [
        build_http_app(settings.edge, settings.limits, keyring),
        build_http_app(settings.edge, settings.limits),
    ]

    async def ours() -> Services:
        return services

    for app in apps:
        app.dependency_overrides[of_this_replica] = ours
    async with served(apps[0]) as with_keys, served(apps[1]) as without:
        ports = (f"http://127.0.0.1:{port}" for port in (with_keys, without))
        try:
            yield Site(
                jobs,
                services,
                Inputs(settings.storage, stores.current),
                stores.current,
                folder / "keys.yaml",
                keyring,
                secrets,
                *ports,
            )
        finally:
            await jobs.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
async def site(tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    async with site_of(tmp_path, clock) as made:
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

    async with site.client("bob") as bob:
        none = await bob.request(method, path.format(id=UNKNOWN))
        for job_id in foreign:
            answer = await bob.request(method, path.format(id=job_id))
            assert answer.status_code == none.status_code == 404
            told, expected = answer.json()["error"], none.json()["error"]
            assert told["message"].replace(job_id, UNKNOWN) == expected["message"]
            assert (told["code"], told["param"]) == (expected["code"], expected["param"])
    async with site.client("nobody") as nobody:
        for job_id in (UNKNOWN, *foreign):
            assert (await nobody.request(method, path.format(id=job_id))).status_code == 401

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


async def test_a_stream_ends_where_the_key_is_revoked(site: Site) -> None:
    job_id = await submitted(site, "ann")

    async with site.client("ann") as ann, ann.stream("GET", f"/jobs/{job_id}/events") as stream:
        events = stream.aiter_lines()
        async with aclosing(events):
            assert [await anext(events)] == ["event: queued"]
            site.revoke_all()
            [held] = await site.jobs.lease("small-sfx", "w", 1)
            await site.jobs.fail(job_id, held.token, JobError(code="c", message="secret"))
            assert "secret" not in "".join([line async for line in events])


async def test_a_long_poll_answers_401_then(site: Site) -> None:
    job_id = await submitted(site, "ann")

    async with site.client("ann") as ann:
        waiting = asyncio.create_task(ann.get(f"/jobs/{job_id}?wait=60"))
        while not site.services.job_feed.watchers:
            await asyncio.sleep(0.01)
        site.revoke_all()
        await site.jobs.cancel(job_id)
        assert (await waiting).status_code == 401


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


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_signature_that_is_none_opens_nothing(site: Site, method: str) -> None:
    job_id = await submitted(site, "ann")

    async with site.client("nobody") as nobody:
        link = f"/jobs/{job_id}/audio?expires=9999999999&signature=00"
        assert (await nobody.request(method, link)).status_code == 401
        for path in (f"/jobs/{job_id}?signature=00", f"/jobs/{job_id}/events?signature=00"):
            assert (await nobody.request(method, path)).status_code == 401
        assert (await nobody.delete(f"/jobs/{job_id}/audio?signature=00")).status_code == 401


async def test_a_key_queues_no_more_jobs_than_it_may(site: Site) -> None:
    first = [await submitted(site, "few", key) for key in ("a", "b")]

    async with site.client("few") as few:
        over = await few.post("/jobs", json=REQUEST)
        batch = await few.post("/jobs/batch", json={"requests": [REQUEST]})
        # Repeating what it queued is no more of it.
        assert [await submitted(site, "few", key) for key in ("a", "b")] == first
        await few.delete(f"/jobs/{first[0]}")
        after = await few.post("/jobs", json=REQUEST)

    assert (over.status_code, over.json()["error"]["code"]) == (429, "rate_limited")
    assert "queued_jobs" in over.json()["error"]["message"]
    assert over.headers["retry-after"]
    assert batch.json()["jobs"][0]["error"]["code"] == "rate_limited"
    assert after.status_code == 202
    await submitted(site, "ann")


@pytest.mark.parametrize(
    ("key", "asked", "accepted"),
    [("few", {}, 2), ("brief", {"duration": 0.1}, 25), ("brief", {"n": 2}, 1)],
    ids=["queued jobs", "seconds", "seconds of several"],
)
async def test_limits_hold_for_what_comes_at_the_same_moment(
    site: Site, key: str, asked: dict[str, Any], accepted: int
) -> None:
    """Every one of them found the same room, and took it."""
    request = REQUEST | asked
    async with site.client(key) as client:
        [batch, *alone] = await asyncio.gather(
            client.post("/jobs/batch", json={"requests": [request] * 20}),
            *(client.post("/jobs", json=request) for _ in range(20)),
        )

    statuses = [job.get("status_code", 202) for job in batch.json()["jobs"]]
    statuses += [answer.status_code for answer in alone]
    assert (statuses.count(202), statuses.count(429)) == (accepted, 40 - accepted)


async def test_a_key_has_its_seconds_of_audio_in_a_day(tmp_path: Path) -> None:
    today = Clock(time.time())
    async with site_of(tmp_path, today) as site, site.client("brief") as brief:
        await submitted(site, "brief")
        longer = await brief.post("/jobs", json=REQUEST | {"duration": 3})
        several = await brief.post("/jobs", json=REQUEST | {"n": 2})
        second = await brief.post("/jobs", json=REQUEST)
        third = await brief.post("/v1/audio/generations", json=REQUEST)

    assert (longer.status_code, longer.json()["error"]["param"]) == (422, "duration")
    assert (several.status_code, second.status_code, third.status_code) == (429, 202, 429)
    assert "0.5 s of its 2.5 s" in third.json()["error"]["message"]
    assert 0 < int(third.headers["retry-after"]) <= 24 * 3600


async def test_requests_one_after_the_other_have_one_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def made(_self: SyncGeneration, request: Any, _owner: str) -> list[EncodedAudio]:
        return [EncodedAudio(b"x", RESULT.audio)] * request.n

    monkeypatch.setattr(SyncGeneration, "_made", made)
    async with site_of(tmp_path, Clock(time.time())) as site, site.client("brief") as brief:
        answers = [await brief.post("/v1/audio/generations", json=REQUEST) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]


async def test_a_day_that_cannot_be_read_stops_nobody_who_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def made(_self: SyncGeneration, request: Any, _owner: str) -> list[EncodedAudio]:
        return [EncodedAudio(b"x", RESULT.audio)] * request.n

    async def away(*_: Any) -> float:
        await asyncio.Event().wait()
        return 0.0

    monkeypatch.setattr(SyncGeneration, "_made", made)
    monkeypatch.setattr(site.jobs, "audio_seconds", away)
    async with site.client("brief") as brief:
        answer = await asyncio.wait_for(brief.post("/v1/audio/generations", json=REQUEST), 20)
    assert answer.status_code == 200


READ = ReadAudio(frames=44_100, sample_rate=44_100, channels=2, format="wav")
UPLOAD, NO_UPLOAD = "1" * 64, "0" * 64


async def test_anothers_upload_is_as_unknown_as_none(site: Site) -> None:
    site.inputs.keep(UPLOAD, READ, 100, b"fLaC", owner="ann")

    async def told(name: str, upload_id: str) -> list[tuple[int, str]]:
        async with site.client(name) as client:
            answers = [
                await client.get(f"/v1/uploads/{upload_id}"),
                await client.delete(f"/v1/uploads/{upload_id}"),
                await client.post("/jobs", json=REQUEST | {"init_audio": upload_id}),
                await client.post("/generate", json=REQUEST | {"init_audio": upload_id}),
            ]
        return [(one.status_code, one.json()["error"]["message"]) for one in answers]

    for name, statuses in {"bob": [404, 404, 422, 422], "nobody": [401] * 4}.items():
        unknown = await told(name, NO_UPLOAD)
        assert [status for status, _ in unknown] == statuses
        foreign = await told(name, UPLOAD)
        assert [(status, text.replace(UPLOAD, NO_UPLOAD)) for status, text in foreign] == unknown
    assert site.inputs.find(UPLOAD) is not None


async def test_ones_own_upload_can_be_named_and_deleted(site: Site) -> None:
    site.inputs.keep(UPLOAD, READ, 100, b"fLaC", owner="ann")
    site.inputs.renew(UPLOAD, "bob")

    async with site.client("ann") as ann, site.client("bob") as bob:
        assert (await ann.get(f"/v1/uploads/{UPLOAD}")).status_code == 200
        edit = {"prompt": "rain", "model": "small-sfx", "init_audio": UPLOAD}
        job_id = (await ann.post("/jobs", json=edit)).json()["id"]

        # It is the other's too: what is deleted is the right to name it.
        assert (await ann.delete(f"/v1/uploads/{UPLOAD}")).status_code == 204
        assert (await ann.get(f"/v1/uploads/{UPLOAD}")).status_code == 404
        assert (await bob.get(f"/v1/uploads/{UPLOAD}")).status_code == 200
        refused = await bob.delete(f"/v1/uploads/{UPLOAD}")
        assert refused.status_code == 409
        assert job_id not in refused.text
        assert (await ann.delete(f"/jobs/{job_id}")).status_code == 200
        assert (await bob.delete(f"/v1/uploads/{UPLOAD}")).status_code == 204
    assert site.inputs.find(UPLOAD) is None


async def finished(site: Site, name: str) -> str:
    """Return the id of a job with two files, ``one`` and ``two``."""
    job_id = await submitted(site, name)
    [held] = await site.jobs.lease("small-sfx", "w", 1)
    one, two = (
        StoredClip(
            audio=RESULT.audio,
            object=site.store.put(
                f"{job_id}{part}.wav", text, content_type="audio/wav", filename="a.wav"
            ),
        )
        for part, text in (("", b"one"), ("_1", b"two"))
    )
    result = JobResult(audio=one.audio, object=one.object, upload_seconds=0.1, others=(two,))
    await site.jobs.succeed(job_id, held.token, result)
    return job_id


async def test_a_link_to_audio_needs_no_key_until_it_expires(site: Site, clock: Clock) -> None:
    job_id = await finished(site, "ann")
    async with site.client("ann") as ann, site.client("nobody") as nobody:
        view = (await ann.get(f"/jobs/{job_id}")).json()
        listed = (await ann.get("/jobs")).json()["jobs"][0]
        links = [one["download_url"] for one in view["results"]]
        assert view["download_url"] == listed["download_url"] == links[0]

        assert [(await nobody.get(link)).content for link in links] == [b"one", b"two"]
        part = await nobody.get(links[0], headers={"Range": "bytes=1-"})
        assert (part.status_code, part.content) == (206, b"ne")
        clock.now += 59
        assert (await nobody.get(links[0])).status_code == 200
        clock.now += 1
        late = await nobody.get(links[0])
        assert (late.status_code, late.json()["error"]["code"]) == (403, "link_expired")
        rest = {"x-download-piece": "0 0 next", "Range": "bytes=1-"}  # of one that has begun
        assert (await nobody.get(links[0], headers=rest)).status_code == 206
        forged = links[0].partition("signature=")[0] + "signature=00"
        assert (await nobody.get(forged, headers=rest)).status_code == 401
        clock.now += 3600
        assert (await nobody.get(links[0], headers=rest)).status_code == 403
        again = (await ann.get(f"/jobs/{job_id}")).json()["download_url"]
        assert (await nobody.get(again)).content == b"one"


async def test_a_link_is_for_nothing_but_what_it_was_signed_for(site: Site) -> None:
    mine, other = await finished(site, "ann"), await finished(site, "ann")
    async with site.client("ann") as ann, site.client("nobody") as nobody:
        link = (await ann.get(f"/jobs/{mine}")).json()["download_url"]
        for forged in (
            link.replace(mine, other),
            link.replace("?", "?index=1&"),
            link.replace("expires=", "expires=1"),
            link[:-1] + ("0" if link[-1] != "0" else "1"),
            link.partition("signature=")[0] + "signature=%C3%A9",
        ):
            answer = await nobody.get(forged)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        query = link.partition("?")[2]
        for elsewhere in (
            f"/jobs/{mine}?{query}",
            f"/jobs/{mine}/events?{query}",
            f"/jobs/{mine}/audio",
            link.partition("&signature")[0],
        ):
            assert (await nobody.get(elsewhere)).status_code == 401


async def test_where_there_are_no_keys_links_are_as_they_were(site: Site) -> None:
    job_id = await finished(site, "anybody")
    async with site.client("anybody") as client:
        view = (await client.get(f"/jobs/{job_id}")).json()
        assert view["download_url"] == f"{site.without}/jobs/{job_id}/audio"
        assert (await client.get(view["download_url"])).content == b"one"
