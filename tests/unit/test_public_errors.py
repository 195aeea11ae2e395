"""Errors of stores: clients read no host, folder or setting, the log has it all."""

import logging
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from sa_ray.contracts import StoredObject
from sa_ray.errors import JobStoreError, ObjectStoreError, SaRayError, StoreError
from sa_ray.serving.ingress.errors import install_error_handlers
from sa_ray.storage.local import LocalObjectStore
from sa_ray.storage.locations import elsewhere


def of_a_folder(folder: Path) -> SaRayError:
    blocked = folder / "blocked"
    blocked.write_text("a file")
    with pytest.raises(ObjectStoreError) as refused:
        LocalObjectStore(blocked / "outputs").check()
    return refused.value


def of_a_bucket(_: Path) -> SaRayError:
    location = "https://s3.secret.internal/bucket-7"
    return elsewhere(
        StoredObject(backend="s3", key="a.wav", size=1, sha256="0", location=location),
        "STABLE_AUDIO_STORAGE_ENDPOINT_URL is another",
    )


def of_a_database(_: Path) -> SaRayError:
    return JobStoreError(
        "redis at redis.secret.internal:6379 refuses: WRONGPASS",
        param="STABLE_AUDIO_JOBS_PASSWORD",
        retry_after_s=7,
    )


@pytest.mark.parametrize("make", [of_a_folder, of_a_bucket, of_a_database])
async def test_what_a_store_says_is_in_the_log_alone(
    make: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = make(tmp_path)  # type: ignore[operator]
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with caplog.at_level(logging.WARNING):
            answer = await client.get("/")

    told = answer.json()["error"]
    assert answer.status_code == error.status
    assert told["code"] == error.code
    for secret in (str(tmp_path), "secret", "internal", "6379", "STABLE_AUDIO"):
        assert secret not in answer.text
    assert any(error.message in one.getMessage() for one in caplog.records)
    if error.retry_after_s:
        assert answer.headers["retry-after"] == str(error.retry_after_s)


def test_no_store_has_its_own_words_for_clients() -> None:
    kinds = [JobStoreError, ObjectStoreError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert kind("at 10.0.0.5").public_message == kind.told
    assert {*StoreError.__subclasses__()} <= {*kinds}


def test_all_other_errors_are_told_as_they_are() -> None:
    assert SaRayError("steps is 51").public_message == "steps is 51"
