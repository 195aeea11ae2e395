"""What a real S3 server adds to the contract: URLs, refusals, outages and damage."""

import socket
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from sa_ray.errors import ObjectStoreError
from sa_ray.storage import ObjectStore
from tests.support.fault_proxy import FaultProxy
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
from tests.support.s3_server import S3Key, S3Server
from tests.support.secret_settings import settings_of


@pytest.fixture
def s3(s3_server: S3Server) -> ObjectStore:
    return open_store(**s3_settings(s3_server))


@pytest.fixture
def folder() -> str:
    """A key prefix that no other test writes to."""
    return uuid4().hex


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


def refusals(store: ObjectStore) -> list[ObjectStoreError]:
    """What ``store`` raises when it is to change something; it must refuse every time."""
    found = []
    for use in (
        store.check,
        lambda: store.put("k.wav", b"x" * 9 * MIB, content_type="audio/wav", filename="k.wav"),
        lambda: delete(store, "k.wav"),
    ):
        with pytest.raises(ObjectStoreError) as refusal:
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

    with pytest.raises(ObjectStoreError, match="no-such-bucket") as refusal:
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


def test_an_endpoint_where_nobody_listens_is_an_outage(s3_server: S3Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        store = open_store(**s3_settings(s3_server, storage_endpoint_url=endpoint))
        for refusal in refusals(store):
            assert refusal.transient
            assert "STABLE_AUDIO_STORAGE_ENDPOINT_URL" in refusal.message


@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_an_object_damaged_on_its_way_is_not_acknowledged(
    s3: ObjectStore, s3_server: S3Server, folder: str, size: int
) -> None:
    hiss = b"hiss" * (size // 4)
    with FaultProxy(s3_server.ports["s3.port"]) as proxy:
        proxy.pass_on(damage=(b"hiss", b"hush"))
        store = open_store(**s3_settings(s3_server, storage_endpoint_url=proxy.url))
        put(store, f"{folder}/intact.wav", b"x" * size)
        with pytest.raises(ObjectStoreError) as refusal:
            put(store, f"{folder}/damaged.wav", hiss)

    assert refusal.value.transient
    assert keys(settings_of(s3_settings(s3_server)).storage, folder) == [f"{folder}/intact.wav"]


def test_a_store_works_again_after_an_outage(
    s3: ObjectStore, s3_server: S3Server, folder: str
) -> None:
    put(s3, f"{folder}/before.wav", b"before")
    reading = s3.read(f"{folder}/before.wav")

    s3_server.stop()
    try:
        assert all(refusal.transient for refusal in refusals(s3))
        with pytest.raises(ObjectStoreError) as refusal:
            list(reading)
        assert refusal.value.transient
    finally:
        s3_server.start()

    s3.check()
    put(s3, f"{folder}/after.wav", b"after")

    assert keys(settings_of(s3_settings(s3_server)).storage, folder) == [
        f"{folder}/after.wav",
        f"{folder}/before.wav",
    ]
    assert content(s3, f"{folder}/before.wav") == b"before"


def test_a_store_that_answers_500_may_recover(s3_server: S3Server, folder: str) -> None:
    with FaultProxy(s3_server.ports["s3.port"]) as proxy:
        store = open_store(**s3_settings(s3_server, storage_endpoint_url=proxy.url))
        put(store, f"{folder}/before.wav", b"before")

        proxy.answer_500()
        refused = refusals(store)
        proxy.pass_on(delay_s=0.1)
        put(store, f"{folder}/after.wav", b"after")

    assert all(refusal.transient for refusal in refused)
    assert all("InternalError" in refusal.message for refusal in refused)


def test_an_endpoint_that_names_the_bucket_is_read_without_it(
    s3_server: S3Server, folder: str
) -> None:
    endpoint = f"{s3_server.endpoint_url}/sounds"
    store = open_store(**s3_settings(s3_server, storage_endpoint_url=endpoint))

    put(store, f"{folder}/a.wav", b"x")

    assert keys(settings_of(s3_settings(s3_server)).storage, folder) == [f"{folder}/a.wav"]
    assert store.location == open_store(**s3_settings(s3_server)).location


@pytest.mark.parametrize(
    ("endpoint", "location"),
    [
        ("https://abc.r2.cloudflarestorage.com/sounds", "abc.r2.cloudflarestorage.com"),
        ("https://abc.r2.cloudflarestorage.com/sounds/", "abc.r2.cloudflarestorage.com"),
        ("https://sounds.s3.eu-central-1.amazonaws.com", "s3.eu-central-1.amazonaws.com"),
        ("https://sounds.fra1.digitaloceanspaces.com", "fra1.digitaloceanspaces.com"),
        ("https://sounds.example.com:9000", "sounds.example.com:9000"),
        ("https://minio.example.com/store", "minio.example.com"),
        (None, "s3.amazonaws.com"),
    ],
)
def test_the_location_names_host_and_bucket(
    s3_server: S3Server, endpoint: str | None, location: str
) -> None:
    store = open_store(**s3_settings(s3_server, storage_endpoint_url=endpoint))

    assert store.location == f"s3://{location}/sounds"


def test_objects_are_deleted_one_by_one_where_a_store_knows_no_other_way(
    s3_server: S3Server, folder: str
) -> None:
    with FaultProxy(s3_server.ports["s3.port"]) as proxy:
        store = open_store(**s3_settings(s3_server, storage_endpoint_url=proxy.url))
        names = [f"{folder}/{number}.wav" for number in range(3)]
        for name in names:
            put(store, name, b"x")

        proxy.pass_on(damage=(b"POST /sounds?delete", b"LINK /sounds?delete"))
        assert store.delete(names) == {}

    assert keys(settings_of(s3_settings(s3_server)).storage, folder) == []


def test_objects_on_several_pages_are_listed(
    s3: ObjectStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sa_ray.storage.s3.MAX_LISTED_AT_ONCE", 2)
    for number in range(5):
        put(s3, f"{folder}/{number}", b"")

    assert {one.key for one in s3.objects(folder)} == {f"{folder}/{n}" for n in range(5)}
