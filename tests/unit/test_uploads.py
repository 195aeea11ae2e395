"""Uploads into a folder that the test takes away and gives back."""

import asyncio
import threading
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from sa_ray.contracts import StoredObject
from sa_ray.errors import InfrastructureError, ObjectStoreError, UnwritableKeyError
from sa_ray.jobs import lifecycle
from sa_ray.settings import load_settings
from sa_ray.storage import ObjectStores, Removal, Uploads, object_key
from sa_ray.storage.local import LocalObjectStore
from sa_ray.storage.uploads import GIVE_UP_REFUSED_S, LAST_RETRY_S, MAX_CONCURRENT_PUTS
from tests.support.clock import Clock
from tests.support.jobs import resolved
from tests.support.object_stores import folder_keys

JOB = "a" * 32
KEY_OF = partial(object_key, load_settings({"storage_bucket": ""}).storage)


class Store(LocalObjectStore):
    """Refuses as many times as it is told; puts wait while ``gate`` is closed, deletes for
    ``removals``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refusals: Iterator[ObjectStoreError] = iter(())
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.removals = threading.Event()
        self.removals.set()

    def put(self, key: str, data: bytes, *, content_type: str, filename: str) -> StoredObject:
        self.started.release()
        assert self.gate.wait(10)
        for refusal in self.refusals:
            raise refusal
        return super().put(key, data, content_type=content_type, filename=filename)

    def delete(self, keys: Collection[str]) -> Mapping[str, ObjectStoreError]:
        assert self.removals.wait(30)
        return super().delete(keys)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uploads(store: Store, clock: Clock) -> Uploads:
    return Uploads(store, KEY_OF, clock=clock, sleep=clock.sleep)


async def sound() -> bytes:
    return b"sound"


def away() -> ObjectStoreError:
    return ObjectStoreError("The store is away.")


def refused() -> ObjectStoreError:
    return ObjectStoreError("Wrong secret.", transient=False)


async def started(store: Store) -> None:
    assert await asyncio.to_thread(store.started.acquire, timeout=10)


async def test_what_the_store_confirmed_is_acknowledged(uploads: Uploads, store: Store) -> None:
    stored = await uploads.upload(JOB, 1, "wav", sound)

    assert (stored.key, stored.size) == (f"{JOB}.wav", 5)
    assert store.size(stored.key) == 5


async def test_audio_that_does_not_arrive_is_given_up(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sa_ray.storage.uploads.FETCH_TIMEOUT_S", 0.01)

    async def never() -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(InfrastructureError, match="did not arrive"):
        await uploads.upload(JOB, 1, "wav", never)

    # No slot is held.
    for _ in range(MAX_CONCURRENT_PUTS + 1):
        await uploads.upload(JOB, 1, "wav", sound)


async def test_an_outage_is_waited_out_with_growing_pauses(
    uploads: Uploads, store: Store, clock: Clock
) -> None:
    store.refusals = iter([away() for _ in range(6)])

    stored = await uploads.upload(JOB, 1, "wav", sound)

    assert stored.size == 5
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, LAST_RETRY_S, LAST_RETRY_S]


async def test_the_bytes_are_fetched_for_each_attempt(uploads: Uploads, store: Store) -> None:
    store.refusals = iter([away(), away()])
    fetched = 0

    async def fetch() -> bytes:
        nonlocal fetched
        fetched += 1
        return b"sound"

    await uploads.upload(JOB, 1, "wav", fetch)

    assert fetched == 3


async def test_a_lasting_refusal_is_given_up_after_an_hour(
    uploads: Uploads, store: Store, clock: Clock
) -> None:
    store.refusals = iter(refused, None)

    with pytest.raises(ObjectStoreError, match="Wrong secret"):
        await uploads.upload(JOB, 1, "wav", sound)

    assert GIVE_UP_REFUSED_S < clock.now < GIVE_UP_REFUSED_S + 2 * LAST_RETRY_S


async def test_an_outage_between_refusals_begins_the_hour_again(
    uploads: Uploads, store: Store, clock: Clock
) -> None:
    for_most_of_an_hour = int(0.9 * GIVE_UP_REFUSED_S / LAST_RETRY_S)
    store.refusals = iter([*(refused() for _ in range(for_most_of_an_hour)), away()] * 3)

    stored = await uploads.upload(JOB, 1, "wav", sound)

    assert stored.size == 5
    assert clock.now > 2 * GIVE_UP_REFUSED_S


@pytest.mark.parametrize("times", [1, 3])
async def test_a_stop_waits_for_the_thread_that_writes(
    uploads: Uploads, store: Store, times: int
) -> None:
    store.gate.clear()
    upload = asyncio.create_task(uploads.upload(JOB, 1, "wav", sound))
    await started(store)

    stops: list[asyncio.Task[None]] = []
    for _ in range(times):
        stops.append(asyncio.create_task(uploads.stop(JOB)))
        # The thread cannot be stopped: what it writes has to be deleted after it.
        done_while_writing, _ = await asyncio.wait(stops, timeout=0.2)
    store.gate.set()
    await asyncio.gather(*stops)

    assert not done_while_writing
    with pytest.raises(asyncio.CancelledError):
        await upload


async def test_an_upload_of_a_later_attempt_outlives_one_that_comes_late(
    uploads: Uploads, store: Store, tmp_path: Path
) -> None:
    store.gate.clear()
    later = asyncio.create_task(uploads.upload(JOB, 2, "wav", sound))
    await started(store)
    late = asyncio.create_task(uploads.upload(JOB, 1, "wav", sound))
    await started(store)

    store.gate.set()

    assert (await later).key == f"{JOB}-2.wav"
    assert (await late).key == f"{JOB}.wav"
    assert folder_keys(tmp_path) == [f"{JOB}-2.wav", f"{JOB}.wav"]


async def test_a_key_that_can_never_be_written_is_given_up_at_once(
    uploads: Uploads, store: Store, clock: Clock
) -> None:
    store.refusals = iter([UnwritableKeyError("Too long.", transient=False)])

    with pytest.raises(UnwritableKeyError):
        await uploads.upload(JOB, 1, "wav", sound)

    assert clock.slept == []


async def test_a_second_upload_of_a_job_takes_the_place_of_the_first(
    uploads: Uploads, store: Store
) -> None:
    store.gate.clear()
    first = asyncio.create_task(uploads.upload(JOB, 1, "wav", sound))
    await started(store)
    second = asyncio.create_task(uploads.upload(JOB, 1, "wav", sound))
    await asyncio.sleep(0)

    store.gate.set()

    assert (await second).size == 5
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_the_clips_of_an_attempt_go_up_together(
    uploads: Uploads, store: Store, tmp_path: Path
) -> None:
    store.gate.clear()
    clips = [asyncio.create_task(uploads.upload(JOB, 1, "wav", sound, n)) for n in range(3)]
    for _ in clips:
        await started(store)
    again = asyncio.create_task(uploads.upload(JOB, 1, "wav", sound, 1))
    await asyncio.wait([again], timeout=0.2)
    store.gate.set()

    keys = [(await clip).key for clip in (clips[0], again, clips[2])]

    assert keys == [f"{JOB}.wav", f"{JOB}_1.wav", f"{JOB}_2.wav"]
    with pytest.raises(asyncio.CancelledError):
        await clips[1]


async def test_few_uploads_go_at_once(uploads: Uploads, store: Store, tmp_path: Path) -> None:
    jobs = [f"{number:032x}" for number in range(3 * MAX_CONCURRENT_PUTS)]
    store.gate.clear()

    at_work = [asyncio.create_task(uploads.upload(job, 1, "wav", sound)) for job in jobs]
    for _ in range(MAX_CONCURRENT_PUTS):
        await started(store)
    await asyncio.wait(at_work, timeout=0.2)
    one_more = store.started.acquire(blocking=False)
    store.gate.set()
    await asyncio.gather(*at_work)

    assert not one_more
    assert folder_keys(tmp_path) == [f"{job}.wav" for job in jobs]


async def test_health_waits_for_the_first_check_and_follows_uploads(
    uploads: Uploads, store: Store
) -> None:
    asking = asyncio.create_task(uploads.health())
    await asyncio.sleep(0)
    assert not asking.done()
    checks = asyncio.create_task(uploads.check_forever())
    first = await asking
    checks.cancel()

    store.refusals = iter([refused()])
    fetches = 0
    seen = []

    async def fetch() -> bytes:
        nonlocal fetches
        fetches += 1
        seen.append((await uploads.health()).message)
        return b"sound"

    await uploads.upload(JOB, 1, "wav", fetch)

    assert first.ok
    assert seen == [None, "Wrong secret."]
    assert (await uploads.health()).ok


async def test_an_upload_does_not_wait_for_removals(store: Store, uploads: Uploads) -> None:
    stores = ObjectStores(load_settings({"storage_bucket": ""}).storage)
    stores.current = store
    removal = Removal(load_settings({"storage_bucket": ""}).storage, stores, uploads)
    store.removals.clear()
    job = lifecycle.lease(lifecycle.new_job("b" * 32, resolved(), 1.0), "worker", 1.0)
    removals = [asyncio.create_task(removal.discard([job])) for _ in range(100)]
    await asyncio.sleep(0)

    try:
        async with asyncio.timeout(10):
            stored = await uploads.upload(JOB, 1, "wav", sound)
    finally:
        store.removals.set()

    assert stored.size == 5
    assert await asyncio.gather(*removals) == [[None]] * 100
