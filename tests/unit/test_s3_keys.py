"""Keys of a bucket that change while the service runs: URLs are signed without asking a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sa_ray.errors import ObjectStoreError
from sa_ray.settings import load_settings
from sa_ray.storage.s3 import REOPEN_PERIOD_S, S3ObjectStore
from tests.support.clock import Clock
from tests.support.secret_settings import SecretFiles, environment

BUCKET = {
    "storage_bucket": "audio",
    "storage_access_key_id": "first",
    "storage_secret_access_key": "hush",
}


@pytest.fixture
def files(tmp_path: Path) -> Iterator[SecretFiles]:
    secrets = SecretFiles(tmp_path)
    with environment(secrets.variables):
        yield secrets


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(files: SecretFiles, clock: Clock) -> S3ObjectStore:
    return S3ObjectStore(load_settings(files.args(BUCKET)).storage.sealed(), clock=clock)


def test_keys_stay_in_use_while_their_file_is_being_written(
    store: S3ObjectStore, files: SecretFiles, clock: Clock
) -> None:
    assert "Credential=first" in store.url("a.wav")

    files.path("storage_secret_access_key").write_text("")
    clock.now += REOPEN_PERIOD_S
    assert "Credential=first" in store.url("a.wav")

    files.args(BUCKET | {"storage_access_key_id": "second"})
    clock.now += REOPEN_PERIOD_S
    assert "Credential=second" in store.url("a.wav")


def test_keys_that_were_never_there_are_told(store: S3ObjectStore, files: SecretFiles) -> None:
    files.path("storage_secret_access_key").unlink()

    with pytest.raises(ObjectStoreError, match="AWS_SECRET_ACCESS_KEY_FILE names"):
        store.url("a.wav")
