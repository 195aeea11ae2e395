"""What every ``ObjectStore`` promises, on a local folder and on a real S3 server."""

import hashlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from sa_ray.config import load_settings
from sa_ray.contracts import AudioFormat
from sa_ray.errors import StorageError
from sa_ray.storage import ObjectStore, object_key, open_object_store
from tests.servers import S3Key, S3Server

MIB = 1 << 20

ODD_NAMES = [
    "two words.wav",
    "plus+and%2Fpercent%.wav",
    "Möwen 雨 🌧.flac",
    "q?a=1&b=2#frag;semi.ogg",
    "quote'\"<angle>.mp3",
    "deep/er/down.wav",
    "..dots.wav",
]

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


def s3_settings(server: S3Server, key: S3Key | None = None, **more: Any) -> dict[str, Any]:
    key = key or server.admin
    return {
        "storage_bucket": "sounds",
        "storage_endpoint_url": server.endpoint_url,
        "storage_access_key_id": key.access_key,
        "storage_secret_access_key": key.secret_key,
        "storage_addressing": "path",
        **more,
    }


def open_store(**settings: Any) -> ObjectStore:
    return open_object_store(load_settings(settings))


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "s3":
        return s3_settings(request.getfixturevalue("s3_server"))
    return {"storage_bucket": "", "output_dir": tmp_path / "outputs"}


@pytest.fixture
def store(settings: dict[str, Any]) -> ObjectStore:
    return open_store(**settings)


@pytest.fixture
def s3(s3_server: S3Server) -> ObjectStore:
    return open_store(**s3_settings(s3_server))


@pytest.fixture
def folder() -> str:
    """A key prefix that no other test writes to."""
    return uuid4().hex


def put(store: ObjectStore, key: str, data: bytes, filename: str = "clip.wav") -> None:
    stored = store.put(key, data, content_type="audio/wav", filename=filename)
    assert stored.backend == store.backend
    assert (stored.key, stored.size) == (key, len(data))
    assert stored.sha256 == hashlib.sha256(data).hexdigest()


def content(store: ObjectStore, key: str) -> bytes:
    return b"".join(store.read(key))


def test_what_was_put_is_read_back(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/a.wav", b"RIFF" * 1000)

    assert content(store, f"{folder}/a.wav") == b"RIFF" * 1000
    assert store.size(f"{folder}/a.wav") == 4000


def test_an_empty_object_is_an_object(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/empty", b"")

    assert store.size(f"{folder}/empty") == 0
    assert content(store, f"{folder}/empty") == b""


def test_a_second_put_replaces_the_first(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/a.wav", b"a long first version")
    put(store, f"{folder}/a.wav", b"second")

    assert content(store, f"{folder}/a.wav") == b"second"
    assert list(store.keys(folder)) == [f"{folder}/a.wav"]


def test_a_deleted_object_is_gone(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/a.wav", b"x")

    store.delete(f"{folder}/a.wav")

    assert store.size(f"{folder}/a.wav") is None
    assert list(store.keys(folder)) == []
    store.delete(f"{folder}/a.wav")


def test_reading_a_missing_object_says_that_it_is_missing(store: ObjectStore, folder: str) -> None:
    put(store, f"{folder}/there.wav", b"x")

    with pytest.raises(StorageError, match="no object") as refusal:
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


def test_keys_are_those_that_start_with_the_prefix(store: ObjectStore, folder: str) -> None:
    for name in ("a/1.wav", "a/2.wav", "ab.wav", "b.wav"):
        put(store, f"{folder}/{name}", b"x")

    assert {*store.keys(f"{folder}/a")} == {
        f"{folder}/{n}" for n in ("a/1.wav", "a/2.wav", "ab.wav")
    }
    assert {*store.keys(f"{folder}/a/")} == {f"{folder}/{n}" for n in ("a/1.wav", "a/2.wav")}
    assert f"{folder}/b.wav" in set(store.keys())
    assert list(store.keys(f"{folder}/none")) == []


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_key_is_kept_as_it_is(store: ObjectStore, folder: str, name: str) -> None:
    key = f"{folder}/{name}"
    put(store, key, name.encode(), filename=name)

    assert content(store, key) == name.encode()
    assert list(store.keys(folder)) == [key]
    store.delete(key)
    assert store.size(key) is None


@pytest.mark.parametrize("key", UNSOUND_KEYS)
@pytest.mark.parametrize(
    "use",
    [
        lambda store, key: store.put(key, b"x", content_type="audio/wav", filename="x"),
        lambda store, key: store.size(key),
        lambda store, key: list(store.read(key)),
        lambda store, key: store.delete(key),
        lambda store, key: store.url(key),
    ],
    ids=["put", "size", "read", "delete", "url"],
)
def test_an_unsound_key_is_refused(
    store: ObjectStore, key: str, use: Callable[[ObjectStore, str], object]
) -> None:
    with pytest.raises(StorageError) as refusal:
        use(store, key)
    assert not refusal.value.transient


def test_threads_share_a_store(store: ObjectStore, folder: str) -> None:
    objects = {f"{folder}/{n}.wav": bytes([n]) * (9 * MIB if n < 2 else 1000) for n in range(12)}

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda item: put(store, *item), objects.items()))

    assert {*store.keys(folder)} == objects.keys()
    assert all(content(store, key) == data for key, data in objects.items())


def test_a_check_of_a_working_store_passes_and_leaves_nothing(store: ObjectStore) -> None:
    before = set(store.keys())

    store.check()
    store.check()

    assert set(store.keys()) == before


def test_a_public_base_url_is_the_address_of_objects(settings: dict[str, Any]) -> None:
    store = open_store(**settings, storage_public_base_url="https://cdn.example.com/audio/")

    assert store.url("a b/ü+%.wav") == "https://cdn.example.com/audio/a%20b/%C3%BC%2B%25.wav"


@pytest.mark.parametrize("fmt", ["wav", "ogg"])
def test_a_job_has_a_key_of_its_own(settings: dict[str, Any], fmt: AudioFormat) -> None:
    key = object_key(load_settings({**settings, "storage_prefix": "/a/b/"}), "0" * 32, fmt)

    assert key == ("a/b/" if settings["storage_bucket"] else "") + f"{'0' * 32}.{fmt}"
    assert object_key(load_settings({**settings, "storage_prefix": ""}), "1", fmt) == f"1.{fmt}"


def test_a_local_folder_has_no_address(tmp_path: Path) -> None:
    store = open_store(storage_bucket="", output_dir=tmp_path)

    assert store.url("a.wav") is None


def test_a_large_upload_goes_in_parts(s3: ObjectStore, folder: str) -> None:
    put(s3, f"{folder}/large.wav", b"z" * 20 * MIB)
    url = s3.url(f"{folder}/large.wav")
    assert url is not None

    # The ETag of a multipart object ends in the number of its parts.
    assert httpx.get(url).headers["etag"].strip('"').endswith("-3")


@pytest.mark.parametrize("name", ["clip.wav", *ODD_NAMES])
def test_a_presigned_url_serves_the_object_as_a_download(
    s3: ObjectStore, folder: str, name: str
) -> None:
    filename = name.rpartition("/")[2]
    put(s3, f"{folder}/{name}", b"sound", filename=filename)
    url = s3.url(f"{folder}/{name}")
    assert url is not None

    answer = httpx.get(url)

    assert (answer.status_code, answer.content) == (200, b"sound")
    assert answer.headers["content-type"] == "audio/wav"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="')
    assert filename in disposition or quote(filename, safe="") in disposition


def test_a_tampered_presigned_url_is_refused(s3: ObjectStore, folder: str) -> None:
    put(s3, f"{folder}/mine.wav", b"mine")
    put(s3, f"{folder}/other.wav", b"not mine")
    url = s3.url(f"{folder}/mine.wav")
    assert url is not None
    assert httpx.get(url).status_code == 200

    assert httpx.get(url.replace("mine.wav", "other.wav")).status_code == 403
    assert httpx.get(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200")).status_code == 403


def test_a_presigned_url_expires(s3_server: S3Server, folder: str) -> None:
    store = open_store(**s3_settings(s3_server, presigned_url_expires=1))
    put(store, f"{folder}/a.wav", b"x")
    url = store.url(f"{folder}/a.wav")
    assert url is not None

    while (answer := httpx.get(url)).status_code == 200:
        pass

    assert answer.status_code == 403


def refusals(store: ObjectStore) -> list[StorageError]:
    """What ``store`` raises when it is to change something; it must refuse every time."""
    found = []
    for use in (
        store.check,
        lambda: store.put("k.wav", b"x" * 9 * MIB, content_type="audio/wav", filename="k.wav"),
        lambda: store.delete("k.wav"),
    ):
        with pytest.raises(StorageError) as refusal:
            use()
        found.append(refusal.value)
    return found


def test_a_wrong_secret_is_told_with_the_variable_and_without_the_secret(
    s3_server: S3Server,
) -> None:
    key = S3Key(s3_server.access_key, "not-the-secret")
    for refusal in refusals(open_store(**s3_settings(s3_server, key))):
        assert not refusal.transient
        assert "AWS_SECRET_ACCESS_KEY" in refusal.message
        assert "not-the-secret" not in f"{refusal!r} {refusal.__cause__!r}"


def test_a_key_that_may_not_write_is_told(s3_server: S3Server) -> None:
    for refusal in refusals(open_store(**s3_settings(s3_server, s3_server.reader))):
        assert not refusal.transient
        assert "AWS_ACCESS_KEY_ID" in refusal.message


def test_a_missing_bucket_is_told(s3_server: S3Server) -> None:
    store = open_store(**s3_settings(s3_server, storage_bucket="no-such-bucket"))

    with pytest.raises(StorageError, match="no-such-bucket") as refusal:
        content(store, "a.wav")
    assert not refusal.value.transient
    assert "STABLE_AUDIO_STORAGE_BUCKET" in refusal.value.message


def test_a_malformed_bucket_name_is_told(s3_server: S3Server) -> None:
    for refusal in refusals(open_store(**s3_settings(s3_server, storage_bucket="no such/bucket"))):
        assert not refusal.transient
        assert "STABLE_AUDIO_STORAGE_BUCKET" in refusal.message


def test_missing_credentials_are_told(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = s3_settings(s3_server) | {
        "storage_access_key_id": "",
        "storage_secret_access_key": "",
    }
    for refusal in refusals(open_store(**settings)):
        assert not refusal.transient
        assert "AWS_ACCESS_KEY_ID" in refusal.message


def test_an_endpoint_that_is_no_url_is_told(s3_server: S3Server) -> None:
    settings = s3_settings(s3_server, storage_endpoint_url="host.example.com")
    for refusal in refusals(open_store(**settings)):
        assert not refusal.transient
        assert "STABLE_AUDIO_STORAGE_ENDPOINT_URL" in refusal.message


def test_an_endpoint_where_nobody_listens_is_an_outage(s3_server: S3Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://user:hidden@127.0.0.1:{unused.getsockname()[1]}"
        store = open_store(**s3_settings(s3_server, storage_endpoint_url=endpoint))
        for refusal in refusals(store):
            assert refusal.transient
            assert "STABLE_AUDIO_STORAGE_ENDPOINT_URL" in refusal.message
            assert "hidden" not in refusal.message


def test_a_store_works_again_after_an_outage(
    s3: ObjectStore, s3_server: S3Server, folder: str
) -> None:
    put(s3, f"{folder}/before.wav", b"before")
    reading = s3.read(f"{folder}/before.wav")

    s3_server.stop()
    try:
        assert all(refusal.transient for refusal in refusals(s3))
        with pytest.raises(StorageError) as refusal:
            list(reading)
        assert refusal.value.transient
    finally:
        s3_server.start()

    s3.check()
    put(s3, f"{folder}/after.wav", b"after")
    assert {*s3.keys(folder)} == {f"{folder}/before.wav", f"{folder}/after.wav"}
    assert content(s3, f"{folder}/before.wav") == b"before"
