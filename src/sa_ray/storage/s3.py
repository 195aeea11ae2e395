"""Object store in an S3-compatible bucket: Amazon S3, Cloudflare R2, MinIO and the like."""

import base64
import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import uuid4

import boto3.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from pydantic import SecretStr

from sa_ray.contracts import RESERVED_NAMES, StorageBackend, StoredObject
from sa_ray.errors import ObjectStoreError
from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.keys import prefixed, public_url, require_sound
from sa_ray.storage.s3_errors import code_of, explained, variables

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef

CHUNK_BYTES: Final = 1 << 20

MULTIPART_BYTES: Final = 8 << 20
"""Objects of this size or more go up in parts of this size."""

MAX_CONCURRENT_PARTS: Final = 4

_WORK: Final = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 3},
    tcp_keepalive=True,
    max_pool_connections=4 * MAX_CONCURRENT_PARTS,
)

# Report a dead endpoint within ten seconds: two attempts and the pause between them.
_CHECK: Final = Config(
    connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2}
)


class S3ObjectStore:
    """Objects of one bucket. Thread-safe.

    Every upload carries its MD5, so the store refuses damaged bytes (a transient error). ``put``
    then reads back the size and the SHA-256 that the store kept with the object. An upload cut off
    by a crash leaves parts behind, which only a lifecycle rule of the bucket removes
    (``AbortIncompleteMultipartUpload``).
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self._bucket = settings.storage_bucket or ""
        self._where = f"Bucket {self._bucket!r} at {_host(settings.storage_endpoint_url)}"
        self._probe_key = prefixed(settings, f"{RESERVED_NAMES}check-{uuid4().hex}")
        self._lock = threading.Lock()
        self._clients: dict[Config, S3Client] = {}
        self._transfer = TransferConfig(
            multipart_threshold=MULTIPART_BYTES,
            multipart_chunksize=MULTIPART_BYTES,
            max_concurrency=MAX_CONCURRENT_PARTS,
            preferred_transfer_client="classic",
        )
        # Waiting parts are copies of the audio: keep no more of them than are being sent.
        self._transfer.max_in_memory_upload_chunks = MAX_CONCURRENT_PARTS

    @property
    def backend(self) -> StorageBackend:
        return "s3"

    def check(self) -> None:
        content = uuid4().bytes
        with explained(self._where):
            client = self._client(_CHECK)
            bucket, key = self._bucket, self._probe_key
            client.put_object(Bucket=bucket, Key=key, Body=content)
            with closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as body:
                intact = body.read() == content
            client.delete_object(Bucket=bucket, Key=key)
        if not intact:
            raise ObjectStoreError(f"{self._where} returned other bytes than were written.")

    def put(self, key: str, data: bytes, *, content_type: str, filename: str) -> StoredObject:
        require_sound(key)
        digest = hashlib.sha256(data).hexdigest()
        with explained(self._where):
            client = self._client()
            client.upload_fileobj(
                io.BytesIO(data),
                self._bucket,
                key,
                ExtraArgs={
                    "ContentType": content_type,
                    "ContentDisposition": _attachment(filename),
                    "Metadata": {"sha256": digest},
                },
                Config=self._transfer,
            )
            kept = client.head_object(Bucket=self._bucket, Key=key)
        if (kept["ContentLength"], kept["Metadata"].get("sha256")) != (len(data), digest):
            raise ObjectStoreError(f"{self._where} holds another object at {key} than was written.")
        return StoredObject(backend=self.backend, key=key, size=len(data), sha256=digest)

    def size(self, key: str) -> int | None:
        """Return None also if there is no such bucket: the answers to HEAD are the same."""
        require_sound(key)
        with explained(self._where):
            try:
                return self._client().head_object(Bucket=self._bucket, Key=key)["ContentLength"]
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return None
                raise

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        require_sound(key)
        if length == 0:
            return
        request: GetObjectRequestTypeDef = {"Bucket": self._bucket, "Key": key}
        if start or length is not None:
            request["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        with explained(self._where):
            try:
                answer = self._client().get_object(**request)
            except ClientError as error:
                if code_of(error) == "InvalidRange":
                    return
                if code_of(error) == "NoSuchKey":
                    raise ObjectStoreError(f"There is no object {key}.", transient=False) from None
                raise
            with closing(answer["Body"]) as body:
                yield from body.iter_chunks(CHUNK_BYTES)

    def delete(self, key: str) -> None:
        require_sound(key)
        with explained(self._where):
            self._client().delete_object(Bucket=self._bucket, Key=key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        with explained(self._where):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for item in page.get("Contents", ()):
                    if f"/{RESERVED_NAMES}" not in f"/{item['Key']}":
                        yield item["Key"]

    def url(self, key: str) -> str:
        """Return a presigned URL, or one below the public base URL if that is set.

        A presigned URL ends with the temporary credentials that signed it, however long
        ``STABLE_AUDIO_PRESIGNED_URL_EXPIRES`` is.
        """
        require_sound(key)
        if base_url := self._settings.storage_public_base_url:
            return public_url(base_url, key)
        with explained(self._where):
            return self._client().generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": key},
                ExpiresIn=self._settings.presigned_url_expires,
            )

    def _client(self, timing: Config = _WORK) -> "S3Client":
        # Created at the first use, so wrong settings are reported where they can be shown.
        with self._lock:
            if timing not in self._clients:
                self._clients[timing] = self._connect(timing)
            return self._clients[timing]

    def _connect(self, timing: Config) -> "S3Client":
        settings = self._settings
        session = boto3.session.Session(
            aws_access_key_id=settings.storage_access_key_id,
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
            client = session.client(
                "s3", endpoint_url=settings.storage_endpoint_url, config=common.merge(timing)
            )
        except ValueError as error:
            raise ObjectStoreError(
                f"{variables('storage_endpoint_url')} is not a usable address; it looks like "
                "https://host or http://host:port.",
                transient=False,
            ) from error
        for operation in ("PutObject", "UploadPart"):
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


def _host(endpoint_url: str | None) -> str:
    """Return a name of the store for messages, without credentials that its URL may hold."""
    if endpoint_url is None:
        return "Amazon S3"
    return endpoint_url.rpartition("@")[2].rpartition("://")[2].partition("/")[0]


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _attachment(filename: str) -> str:
    """A Content-Disposition header (RFC 6266, appendix D: ASCII first, then the full name)."""
    plain = "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename
    )
    extended = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{extended}'
