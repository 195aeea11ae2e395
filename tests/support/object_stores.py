"""Opening object stores, and using them in tests."""

import hashlib
from typing import Any

from sa_ray.settings import load_settings
from sa_ray.storage import ObjectStore, open_object_store
from tests.support.s3_server import S3Key, S3Server

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
    return open_object_store(load_settings(settings).storage)


def put(store: ObjectStore, key: str, data: bytes, filename: str = "clip.wav") -> None:
    stored = store.put(key, data, content_type="audio/wav", filename=filename)
    assert stored.backend == store.backend
    assert (stored.key, stored.size) == (key, len(data))
    assert stored.sha256 == hashlib.sha256(data).hexdigest()


def content(store: ObjectStore, key: str) -> bytes:
    return b"".join(store.read(key))
