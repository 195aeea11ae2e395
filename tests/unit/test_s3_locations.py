"""Objects in a bucket that was in use before, asked for without any S3 server."""

import pytest

from sa_ray.contracts import StoredObject
from sa_ray.storage import ObjectStores
from tests.support.secret_settings import settings_of


def stores(endpoint: str, bucket: str) -> ObjectStores:
    settings = {
        "storage_endpoint_url": endpoint,
        "storage_bucket": bucket,
        "storage_access_key_id": "key",
        "storage_secret_access_key": "secret",
        "storage_addressing": "path",
    }
    return ObjectStores(settings_of(settings).storage)


@pytest.mark.parametrize(
    ("named", "plain"),
    [
        ("https://minio.test/{}", "https://minio.test"),
        ("https://{}.account.r2.cloudflarestorage.com", "https://account.r2.cloudflarestorage.com"),
    ],
)
def test_an_endpoint_that_names_the_bucket_leads_to_an_earlier_one_too(
    named: str, plain: str
) -> None:
    before = stores(named.format("old"), "old")
    stored = StoredObject(
        backend="s3", key="a.wav", size=1, sha256="0" * 64, location=before.current.location
    )

    url = stores(named.format("new"), "new").url(stored)

    assert url is not None
    assert url.startswith(f"{plain}/old/a.wav?")
