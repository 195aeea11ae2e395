"""The endpoint of an S3-compatible store, as consoles show it and as a client needs it."""

from typing import Final
from urllib.parse import urlsplit, urlunsplit

from sa_ray.settings.storage import StorageSettings

_HOSTS_WITH_BUCKETS: Final = (
    ".amazonaws.com",
    ".backblazeb2.com",
    ".cloudflarestorage.com",
    ".digitaloceanspaces.com",
    ".wasabisys.com",
)
"""Ends of hosts that name a bucket in front, and show that address as the bucket's own. Elsewhere
a host may begin with the bucket's name by chance (a bucket ``minio`` at ``minio.example.com``)."""


def endpoint_of(settings: StorageSettings) -> str | None:
    """Return the endpoint without the bucket, which the client adds; None for Amazon S3.

    The consoles of R2 and others show ``https://host/bucket`` or ``https://bucket.host``.
    """
    url, bucket = settings.storage_endpoint_url, settings.storage_bucket
    if url is None or not bucket:
        return url
    parts = urlsplit(url)
    if parts.path.strip("/") == bucket:
        parts = parts._replace(path="")
    before_host, at, host = parts.netloc.rpartition("@")
    if host.lower().startswith(f"{bucket.lower()}."):
        rest = host[len(bucket) + 1 :]
        if rest.partition(":")[0].lower().endswith(_HOSTS_WITH_BUCKETS):
            parts = parts._replace(netloc=f"{before_host}{at}{rest}")
    return urlunsplit(parts)


def host_of(endpoint_url: str | None) -> str | None:
    """Return host and port, without credentials that the URL may hold; None for Amazon S3."""
    if endpoint_url is None:
        return None
    return endpoint_url.rpartition("@")[2].rpartition("://")[2].partition("/")[0]
