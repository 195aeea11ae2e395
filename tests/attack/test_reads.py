"""Reads are cheap to ask for, and none of them costs others the service."""

import asyncio
import json
import socket
import sqlite3
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sa_ray.local import LocalService
from tests.support.commands import MARK, marked
from tests.support.secret_settings import environment
from tests.support.service import SLOW, Service

pytestmark = pytest.mark.attack

PER_CLIENT = 20
DOWNLOADS = 30

READERS_MB = 500.0
"""Bound of what 30 readers may cost all processes together: 225 MB in pieces, 2,010 MB whole."""

SETTLED_MB = 5.0
SETTLED_S = 4.0

STREAMS = 200
STORM_S = 8.0

PROMPT = "\N{FIRE}" * 10_000
LISTED = 60


@dataclass(frozen=True)
class Attacked:
    service: Service
    folder: Path
    mark: str

    def memory_mb(self) -> float:
        """What all processes of the service hold, shared memory counted once."""
        held = 0.0
        for pid in marked(self.mark):
            try:
                held += psutil.Process(pid).memory_full_info().pss / 1e6
            except psutil.Error:
                continue
        return held

    def settled_mb(self) -> float:
        """The same, once it neither grows nor shrinks any more."""
        last, since = self.memory_mb(), time.monotonic()
        while time.monotonic() - since < SETTLED_S:
            time.sleep(0.5)
            if abs((now := self.memory_mb()) - last) > SETTLED_MB:
                last, since = now, time.monotonic()
        return last


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="attack-") as name, ExitStack() as stack:
        args = {
            "jobs_url": f"sqlite:///{name}/jobs.db",
            "output_dir": f"{name}/outputs",
            "preload_models": "small-sfx,medium",
            "max_open_per_client": PER_CLIENT,
            "max_downloads": DOWNLOADS,
            "allow_anonymous": True,  # some clients seem to be of other addresses
        }
        with environment({MARK: mark}):
            running = stack.enter_context(LocalService(Path(name), args))
        running.wait_until_ready()
        yield Attacked(Service(running.base_url, args), Path(name), mark)


@pytest.fixture(scope="module")
def big(attacked: Attacked) -> str:
    """A job whose audio has 53 MB."""
    service = attacked.service
    job_id = service.submit(model="medium", prompt="rain", duration=300, steps=1)
    assert service.wait_for(job_id)["size_bytes"] > 50e6
    return job_id


def let_in(service: Service, path: str, client: str, stack: ExitStack) -> None:
    """The same, as often as it takes: places of those who have left are free a moment later."""
    service.until(lambda: b"HTTP/1.1 200" in deaf_reader(service, path, client, stack))


def deaf_reader(service: Service, path: str, client: str, stack: ExitStack) -> bytes:
    """Ask for ``path`` as ``client``, read the head of the answer, and nothing more."""
    url = httpx.URL(service.base_url)
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.settimeout(60)
    connection.connect((url.host, url.port))
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n\r\n".encode()
    )
    return connection.recv(1 << 12)


def test_readers_that_do_not_read_hold_a_piece_each(attacked: Attacked, big: str) -> None:
    service, path = attacked.service, f"/jobs/{big}/audio"
    whole = service.http.get(path)
    before = attacked.settled_mb()

    with ExitStack() as stack:
        for number in range(DOWNLOADS):
            let_in(service, path, f"192.0.2.{number % 2}", stack)
        grown = attacked.settled_mb() - before
        crowded = [
            service.http.get(path, headers={"X-Forwarded-For": client})
            for client in ("192.0.2.0", "192.0.2.9")
        ]

    assert grown < READERS_MB
    assert [answer.status_code for answer in crowded] == [429, 429]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in crowded)
    assert "STABLE_AUDIO_MAX_DOWNLOADS" in crowded[1].text
    service.until(lambda: service.http.get(path).status_code == 200)
    assert len(whole.content) == int(whole.headers["content-length"])


def test_one_client_has_so_many_downloads(attacked: Attacked, big: str) -> None:
    service, path = attacked.service, f"/jobs/{big}/audio"
    with ExitStack() as stack:
        for _ in range(PER_CLIENT):
            let_in(service, path, "192.0.2.3", stack)
        let_in(service, path, "192.0.2.4", stack)
        refused = service.http.get(path, headers={"X-Forwarded-For": "192.0.2.3"})

    assert refused.status_code == 429
    assert "STABLE_AUDIO_MAX_OPEN_PER_CLIENT" in refused.json()["error"]["message"]


async def storm(service: Service, job_ids: list[str]) -> tuple[Counter[str], list[int]]:
    """``STREAMS`` clients of one address open streams and close them, over and over."""
    url = httpx.URL(service.base_url)
    answers: Counter[str] = Counter()
    health: list[int] = []
    until = time.monotonic() + STORM_S

    async def open_and_close(number: int) -> None:
        path = f"/jobs/{job_ids[number % len(job_ids)]}/events"
        while time.monotonic() < until:
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answers[(await reader.readline())[9:12].decode()] += 1
            await asyncio.sleep(1)
            writer.close()

    async def ask() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            while time.monotonic() < until:
                health.append((await http.get(f"{service.base_url}/health")).status_code)
                await asyncio.sleep(0.1)

    await asyncio.gather(ask(), *map(open_and_close, range(STREAMS)))
    return answers, health


def losses(folder: Path) -> list[int]:
    """How often each job's lease was lost with its worker."""
    with closing(sqlite3.connect(folder / "jobs.db")) as database:
        bodies = database.execute("SELECT body FROM jobs").fetchall()
    return [json.loads(body)["losses"] for (body,) in bodies]


def test_a_storm_of_streams_costs_no_job_its_lease_and_nobody_the_health(
    attacked: Attacked,
) -> None:
    service = attacked.service
    job_ids = [service.submit(**SLOW) for _ in range(4)]
    service.until(lambda: service.job(job_ids[0])["status"] == "running")

    answers, health = asyncio.run(storm(service, job_ids))
    attempts = [service.job(job_id)["attempts"] for job_id in job_ids]
    for job_id in job_ids:
        service.http.delete(f"/jobs/{job_id}")

    assert set(answers) == {"200", "429"}
    assert set(health) == {200}
    assert max(attempts) == 1
    assert set(losses(attacked.folder)) == {0}


def test_streams_are_capped_for_each_address(attacked: Attacked) -> None:
    service = attacked.service
    job_ids = [service.submit(**SLOW) for _ in range(8)]
    job_id = job_ids[-1]  # which waits for the others meanwhile
    path = f"/jobs/{job_id}/events"
    with ExitStack() as stack:
        heads = [deaf_reader(service, path, "198.51.100.7", stack) for _ in range(PER_CLIENT)]
        mine = {"X-Forwarded-For": "198.51.100.7"}
        refused = [
            service.http.get(path, headers=mine),
            service.http.get(f"/jobs/{job_id}?wait=30", headers=mine),
        ]
        plain = service.http.get(f"/jobs/{job_id}", headers=mine)
        other = service.http.get(f"/jobs/{job_id}?wait=0.01", headers={"X-Forwarded-For": "::2"})
    for job_id in job_ids:
        service.http.delete(f"/jobs/{job_id}")

    assert {head[:12] for head in heads} == {b"HTTP/1.1 200"}
    for answer in refused:
        assert answer.status_code == 429
        assert "STABLE_AUDIO_MAX_OPEN_PER_CLIENT" in answer.json()["error"]["message"]
    assert (plain.status_code, other.status_code) == (200, 200)


def test_a_list_has_no_prompts_unless_asked_for(attacked: Attacked) -> None:
    service = attacked.service
    long: dict[str, Any] = {"prompt": PROMPT, "negative_prompt": PROMPT, "duration": 60}
    job_ids = [service.submit(**long) for _ in range(LISTED)]

    listed = service.http.get("/jobs", params={"limit": 200})
    asked = service.http.get("/jobs", params={"limit": 200, "include": "prompts"})
    for job_id in job_ids:
        service.http.delete(f"/jobs/{job_id}")

    assert len(listed.json()["jobs"]) >= LISTED
    assert {job["prompt"] for job in listed.json()["jobs"]} == {None}
    assert len(listed.content) < 200 * 2_000
    assert [job["prompt"] for job in asked.json()["jobs"]] == [PROMPT] * 20
    assert asked.json()["next_cursor"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.7"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 a-proxy"},
    ],
    ids=lambda headers: next(iter(headers.items()))[0] + next(iter(headers.values())),
)
def test_strangers_are_told_the_status_of_the_service_only(
    attacked: Attacked, headers: dict[str, str]
) -> None:
    service = attacked.service
    own = service.http.get("/health").json()
    told = service.http.get("/health", headers=headers)
    models = service.http.get("/v1/models", headers=headers).json()["models"]

    assert own["version"]
    assert told.status_code == 200
    assert told.json() == {"status": own["status"]}
    assert {model["message"] for model in models} == {None}


def test_an_error_of_the_store_names_no_folder(attacked: Attacked) -> None:
    service = attacked.service
    job_id = service.submit()
    service.wait_for(job_id)
    audio = service.outputs / f"{job_id}.wav"
    audio.unlink()
    audio.symlink_to("/etc/hostname")  # which the store refuses to follow

    answer = service.http.get(f"/jobs/{job_id}/audio")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    assert str(attacked.folder) not in answer.text
    assert "log" in answer.json()["error"]["message"]
