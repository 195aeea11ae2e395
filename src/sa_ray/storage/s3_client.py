"""Make clients of S3-compatible stores."""

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final

import boto3.session
from botocore.config import Config
from pydantic import SecretStr

from sa_ray.errors import ObjectStoreError
from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.s3_errors import variables

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_CONCURRENT_PARTS: Final = 4
"""Parts of one upload that are sent at once."""

MAX_CONNECTIONS: Final = 48
"""Connections kept: for the parts of four uploads, and for downloads and removals beside them."""

WORK: Final = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 3},
    tcp_keepalive=True,
    max_pool_connections=MAX_CONNECTIONS,
)

# Report a dead endpoint within ten seconds: two attempts and the pause between them.
CHECK: Final = Config(
    connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2}
)


def connect(settings: StorageSettings, endpoint: str | None, timing: Config) -> "S3Client":
    """Return a client of ``endpoint`` with the credentials of ``settings``, which are opened.

    Raises ``ObjectStoreError`` if the endpoint is no address.
    """
    session = boto3.session.Session(
        aws_access_key_id=_reveal(settings.storage_access_key_id),
        aws_secret_access_key=_reveal(settings.storage_secret_access_key),
        aws_session_token=_reveal(settings.storage_session_token),
        region_name=settings.storage_region,
    )
    common = Config(
        signature_version="s3v4",
        # Newer checksum headers are refused by many S3-compatible stores.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": settings.storage_addressing},
    )
    try:
        client = session.client("s3", endpoint_url=endpoint, config=common.merge(timing))
    except ValueError as error:
        raise ObjectStoreError(
            f"{variables('storage_endpoint_url')} is not a usable address; it looks like "
            "https://host or http://host:port.",
            transient=False,
        ) from error
    for operation in ("PutObject", "UploadPart", "DeleteObjects"):
        client.meta.events.register(f"before-call.s3.{operation}", _add_content_md5)
    return client


def _add_content_md5(params: dict[str, Any], **_: object) -> None:
    # MD5 is the one body digest that every store checks: some take a SHA-256 and never compare it.
    body = params["body"]
    if not isinstance(body, bytes):
        start, stream = body.tell(), body
        body = stream.read()
        stream.seek(start)
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
