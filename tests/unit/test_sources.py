"""What edits are made from is fetched once, checked, and kept within bounds."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sa_ray.contracts import Source, StoredObject
from sa_ray.engines import Audio
from sa_ray.errors import GenerationError, ObjectStoreError
from sa_ray.serving.variant.sources import PIECE_BYTES, Sources

Reading = Callable[..., Sources]


class Store:
    """Implements the ``Reader`` port over a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.pieces = 0
        self.away = False

    def put(self, data: bytes) -> Source:
        digest = hashlib.sha256(data).hexdigest()
        self.objects[digest] = data
        stored = StoredObject(backend="local", key=digest, size=len(data), sha256=digest)
        return Source(upload_id=digest, object=stored, seconds=1)

    async def size(self, stored: StoredObject) -> int | None:
        return len(self.objects[stored.key]) if stored.key in self.objects else None

    async def read(self, stored: StoredObject, start: int, length: int) -> bytes:
        self.pieces += 1
        await asyncio.sleep(0)
        if self.away:
            raise ObjectStoreError("away")
        if stored.key not in self.objects:
            raise ObjectStoreError("no such object", transient=False)
        return self.objects[stored.key][start : start + length]


@pytest.fixture
def reading() -> Iterator[Reading]:
    with ThreadPoolExecutor(1) as pool:
        yield lambda store, max_bytes=1 << 20: Sources(store, decode, pool, max_bytes)


def decode(data: bytes) -> Audio:
    return np.full((2, 1000), data[0], np.float32)


async def test_an_upload_is_fetched_once_for_all_who_want_it(reading: Reading) -> None:
    store = Store()
    source = store.put(b"\x07" + bytes(PIECE_BYTES))
    sources = reading(store)

    found = await asyncio.gather(*(sources.audio(source, 1000) for _ in range(8)))

    assert store.pieces == 2
    assert all(one is found[0] for one in found)
    assert found[0][0, 0] == 7


async def test_those_who_wait_for_the_same_go_on_at_the_same_moment(reading: Reading) -> None:
    store = Store()
    source = store.put(b"x")
    sources = reading(store)
    loop = asyncio.get_running_loop()
    order: list[str] = []

    async def ask() -> None:
        await sources.audio(source, 1000)
        order.append("asked")
        loop.call_soon(order.append, "later")

    await asyncio.gather(*(ask() for _ in range(4)))
    await asyncio.sleep(0)

    assert order == ["asked"] * 4 + ["later"] * 4


async def test_one_who_leaves_takes_nothing_from_the_others(reading: Reading) -> None:
    store = Store()
    source = store.put(b"x")
    sources = reading(store)
    first, second = (asyncio.create_task(sources.audio(source, 1000)) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()

    assert (await second).shape == (2, 1000)
    assert first.cancelled()


async def test_a_source_lies_at_its_place_in_the_clip(reading: Reading) -> None:
    store = Store()
    source = store.put(b"\x07").model_copy(update={"at": 0.5})

    clip = await reading(store).audio(source, 44_100)

    assert clip.shape == (2, 44_100)
    assert clip[:, 22_050:23_050].min() == 7
    assert clip.sum() == 2 * 7 * 1000


async def test_only_as_much_is_kept_as_may_be(reading: Reading) -> None:
    store = Store()
    first, second, third = (store.put(bytes([number])) for number in range(3))
    sources = reading(store, max_bytes=16_000)

    for source in (first, second, first, third, first):
        await sources.audio(source, 1000)
    assert store.pieces == 3

    await sources.audio(second, 1000)
    assert store.pieces == 4


async def test_what_is_larger_than_all_that_is_kept_can_be_had(reading: Reading) -> None:
    store = Store()
    sources = reading(store, max_bytes=10)
    source = store.put(b"x")

    assert (await sources.audio(source, 1000)).shape == (2, 1000)
    assert (await sources.audio(source, 1000)).shape == (2, 1000)
    assert store.pieces == 2


async def test_an_upload_that_is_gone_is_told_and_not_tried_again(reading: Reading) -> None:
    store = Store()
    source = store.put(b"x")
    store.objects.clear()

    with pytest.raises(GenerationError, match="no longer there"):
        await reading(store).audio(source, 1000)


async def test_a_store_that_is_away_can_be_tried_again(reading: Reading) -> None:
    store = Store()
    source = store.put(b"x")
    sources = reading(store)
    store.away = True

    with pytest.raises(ObjectStoreError):
        await sources.audio(source, 1000)
    store.away = False
    assert (await sources.audio(source, 1000)).shape == (2, 1000)


@pytest.mark.parametrize("found", [b"y", b""])
async def test_other_bytes_than_were_uploaded_are_not_taken(reading: Reading, found: bytes) -> None:
    store = Store()
    source = store.put(b"x")
    store.objects[source.object.key] = found

    sources = reading(store)

    for wanted in (sources.audio(source, 1000), sources.origin(source)):
        with pytest.raises(ObjectStoreError, match="other bytes") as caught:
            await wanted
        assert not caught.value.transient
