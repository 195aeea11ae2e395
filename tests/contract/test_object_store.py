"""What every ``ObjectStore`` promises, on a local folder and on a real S3 server."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sa_ray.contracts import AudioFormat
from sa_ray.errors import ObjectStoreError
from sa_ray.storage import ObjectStore, object_key
from tests.support.object_stores import (
    MIB,
    ODD_NAMES,
    content,
    delete,
    keys,
    open_store,
    put,
    s3_settings,
)
from tests.support.secret_settings import settings_of

UNSOUND_KEYS = [
    "",
    "/absolute.wav",
    "../outside.wav",
    "a/../../outside.wav",
    "a//b.wav",
    "a/./b.wav",
    "folder/",
    "nul\0.wav",
    "line\nbreak.wav",
    "lone\ud800surrogate.wav",
    ".sa-ray-partial/x",
]


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "s3":
        return s3_settings(request.getfixturevalue("s3_server"))
    return {"storage_bucket": "", "output_dir": tmp_path / "outputs"}


@pytest.fixture
def store(settings: dict[str, Any]) -> ObjectStore:
    return open_store(**settings)


def stored_keys(settings: dict[str, Any], prefix: str = "") -> list[str]:
    return keys(settings_of(settings).storage, prefix)


@pytest.fixture
def folder() -> str:
    """A key prefix that no other test writes to."""
    return uuid4().hex


def test_what_was_put_is_read_back(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/a.wav", b"RIFF" * 1000)

    assert content(store, f"{folder}/a.wav") == b"RIFF" * 1000
    assert store.size(f"{folder}/a.wav") == 4000


def test_an_empty_object_is_an_object(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/empty", b"")

    assert store.size(f"{folder}/empty") == 0
    assert content(store, f"{folder}/empty") == b""


def test_a_second_put_replaces_the_first(
    store: ObjectStore, settings: dict[str, Any], folder: str
) -> None:
    put(store, f"{folder}/a.wav", b"a long first version")
    put(store, f"{folder}/a.wav", b"second")

    assert content(store, f"{folder}/a.wav") == b"second"
    assert stored_keys(settings, folder) == [f"{folder}/a.wav"]


def test_a_deleted_object_is_gone(
    store: ObjectStore, settings: dict[str, Any], folder: str
) -> None:
    put(store, f"{folder}/a.wav", b"x")

    delete(store, f"{folder}/a.wav")

    assert store.size(f"{folder}/a.wav") is None
    assert stored_keys(settings, folder) == []

    delete(store, f"{folder}/a.wav")


def test_reading_a_missing_object_says_that_it_is_missing(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/there.wav", b"x")

    with pytest.raises(ObjectStoreError, match="no object") as refusal:
        content(store, f"{folder}/missing.wav")
    assert not refusal.value.transient


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (0, 1, b"0"),
        (3, 4, b"3456"),
        (7, None, b"789"),
        (7, 100, b"789"),
        (3, 0, b""),
        (10, None, b""),
        (50, 5, b""),
    ],
)
def test_a_range_is_read(
    store: ObjectStore, folder: str, start: int, length: int | None, expected: bytes
) -> None:
    put(store, f"{folder}/digits", b"0123456789")

    assert b"".join(store.read(f"{folder}/digits", start=start, length=length)) == expected


def test_a_large_object_arrives_whole_and_is_read_in_small_chunks(
    store: ObjectStore, folder: str
) -> None:
    data = bytes(range(256)) * (20 * MIB // 256) + b"odd end"
    put(store, f"{folder}/large.wav", data)

    chunks = list(store.read(f"{folder}/large.wav"))

    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= MIB

    tail = store.read(f"{folder}/large.wav", start=19 * MIB + 1)
    assert b"".join(tail) == data[19 * MIB + 1 :]


def test_a_read_may_be_left_early(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/a.wav", b"y" * 3 * MIB)

    assert len(b"".join(islice(store.read(f"{folder}/a.wav"), 1))) > 0
    assert store.size(f"{folder}/a.wav") == 3 * MIB


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_key_is_kept_as_it_is(
    store: ObjectStore, settings: dict[str, Any], folder: str, name: str
) -> None:
    key = f"{folder}/{name}"
    put(store, key, name.encode(), filename=name)

    assert content(store, key) == name.encode()
    assert stored_keys(settings, folder) == [key]

    delete(store, key)
    assert store.size(key) is None


@pytest.mark.parametrize("key", UNSOUND_KEYS)
@pytest.mark.parametrize(
    "use",
    [
        lambda store, key: store.put(key, b"x", content_type="audio/wav", filename="x"),
        lambda store, key: store.size(key),
        lambda store, key: list(store.read(key)),
        delete,
        lambda store, key: store.url(key),
    ],
    ids=["put", "size", "read", "delete", "url"],
)
def test_an_unsound_key_is_refused(
    store: ObjectStore, key: str, use: Callable[[ObjectStore, str], object]
) -> None:
    with pytest.raises(ObjectStoreError) as refusal:
        use(store, key)
    assert not refusal.value.transient


def test_threads_share_a_store(store: ObjectStore, settings: dict[str, Any], folder: str) -> None:
    objects = {f"{folder}/{n}.wav": bytes([n]) * (9 * MIB if n < 2 else 1000) for n in range(12)}

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda item: put(store, *item), objects.items()))

    assert {*stored_keys(settings, folder)} == objects.keys()
    assert all(content(store, key) == data for key, data in objects.items())


def test_a_check_of_a_working_store_passes_and_leaves_nothing(
    store: ObjectStore, settings: dict[str, Any]
) -> None:
    store.check()
    before = stored_keys(settings)

    store.check()
    store.check()

    assert stored_keys(settings) == before


def test_a_public_base_url_is_the_address_of_objects(settings: dict[str, Any]) -> None:
    store = open_store(**settings, storage_public_base_url="https://cdn.example.com/audio/")

    assert store.url("a b/ü+%.wav") == "https://cdn.example.com/audio/a%20b/%C3%BC%2B%25.wav"


@pytest.mark.parametrize("fmt", ["wav", "ogg"])
def test_each_attempt_at_a_job_has_a_key_of_its_own(
    settings: dict[str, Any], fmt: AudioFormat
) -> None:
    with_prefix = settings_of({**settings, "storage_prefix": "/a/b/"}).storage
    without = settings_of({**settings, "storage_prefix": ""}).storage
    folder = "a/b/" if settings["storage_bucket"] else ""

    assert object_key(with_prefix, "0" * 32, 1, fmt) == f"{folder}{'0' * 32}.{fmt}"
    assert object_key(with_prefix, "0" * 32, 12, fmt) == f"{folder}{'0' * 32}-12.{fmt}"
    assert object_key(without, "0" * 32, 1, fmt) == f"{'0' * 32}.{fmt}"


def test_a_local_folder_has_no_address(tmp_path: Path) -> None:
    store = open_store(storage_bucket="", output_dir=tmp_path)

    assert store.url("a.wav") is None


def test_the_objects_of_a_folder_are_listed_with_their_age(store: ObjectStore, folder: str) -> None:
    begun = time.time()
    for name in ("a.flac", "a.json", "Möwen 雨.flac"):
        put(store, f"{folder}/in/{name}", b"x")
    put(store, f"{folder}/in/deeper/b.flac", b"x")
    put(store, f"{folder}/inside.flac", b"x")

    listed = list(store.objects(f"{folder}/in"))

    names = ("a.flac", "a.json", "Möwen 雨.flac")
    assert {one.key for one in listed} == {f"{folder}/in/{name}" for name in names}
    # Stores may tell whole seconds.
    assert all(begun - 2 <= one.modified_at <= time.time() + 2 for one in listed)
    assert list(store.objects(f"{folder}/nothing")) == []


def test_an_object_is_found_as_it_is_listed_and_another_once_it_was_replaced(
    store: ObjectStore, folder: str
) -> None:
    put(store, f"{folder}/in/a.bin", b"rain")

    (listed,) = store.objects(f"{folder}/in")
    found = store.find(f"{folder}/in/a.bin")
    put(store, f"{folder}/in/a.bin", b"wind")
    after = store.find(f"{folder}/in/a.bin")

    assert found
    assert after
    assert (found.key, found.size, found.version) == (listed.key, 4, listed.version)
    assert after.version != found.version
    assert store.find(f"{folder}/in/b.bin") is None
