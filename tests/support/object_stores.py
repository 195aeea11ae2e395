"""Opening object stores, and using them in tests."""

import hashlib
from pathlib import Path
from typing import Any

import boto3.session
from botocore.config import Config

from sa_ray.contracts import RESERVED_NAMES
from sa_ray.settings import StorageSettings
from sa_ray.storage import ObjectStore, open_object_store
from tests.support.s3_server import S3Key, S3Server
from tests.support.secret_settings import settings_of

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
    return open_object_store(settings_of(settings).storage)


def put(store: ObjectStore, key: str, data: bytes, filename: str = "clip.wav") -> None:
    stored = store.put(key, data, content_type="audio/wav", filename=filename)
    assert stored.backend == store.backend
    assert (stored.key, stored.size) == (key, len(data))
    assert stored.sha256 == hashlib.sha256(data).hexdigest()


def content(store: ObjectStore, key: str) -> bytes:
    return b"".join(store.read(key))


def keys(settings: StorageSettings, prefix: str = "") -> list[str]:
    """The keys of all objects that start with ``prefix``, sorted, without the store's own."""
    if settings.storage_backend == "s3":
        found = _bucket_keys(settings, prefix)
    else:
        found = folder_keys(settings.output_dir)
    return sorted(
        key for key in found if key.startswith(prefix) and f"/{RESERVED_NAMES}" not in f"/{key}"
    )


def folder_keys(folder: Path) -> list[str]:
    """The same for all objects in a local folder."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(file.as_posix() for file in files if not file.parts[0].startswith(RESERVED_NAMES))


def delete(store: ObjectStore, key: str) -> None:
    """Delete an object, or raise why not."""
    for refusal in store.delete([key]).values():
        raise refusal


def _bucket_keys(settings: StorageSettings, prefix: str) -> list[str]:
    key, secret = settings.storage_access_key_id, settings.storage_secret_access_key
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.storage_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(s3={"addressing_style": "path"}),
    )
    pages = client.get_paginator("list_objects_v2")
    return [
        item["Key"]
        for page in pages.paginate(Bucket=settings.storage_bucket or "", Prefix=prefix)
        for item in page.get("Contents", ())
    ]
