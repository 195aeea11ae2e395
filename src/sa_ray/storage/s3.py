"""Object store in an S3-compatible bucket: Amazon S3, Cloudflare R2, MinIO and the like."""

import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from sa_ray.contracts import RESERVED_NAMES, StorageBackend, StoredObject
from sa_ray.errors import ConfigurationError, ObjectStoreError
from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.keys import attachment, prefixed, public_url, require_sound
from sa_ray.storage.port import ListedObject
from sa_ray.storage.s3_client import CHECK, MAX_CONCURRENT_PARTS, WORK, connect
from sa_ray.storage.s3_endpoint import endpoint_of, host_of
from sa_ray.storage.s3_errors import code_of, explained, explanation

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef

logger = logging.getLogger(__name__)

CHUNK_BYTES: Final = 1 << 20

MULTIPART_BYTES: Final = 8 << 20
"""Objects of this size or more go up in parts of this size."""

REOPEN_PERIOD_S: Final = 30.0
"""Seconds after which changed keys are found."""

MAX_DELETED_AT_ONCE: Final = 1000
"""Limit of ``DeleteObjects``."""

MAX_LISTED_AT_ONCE: Final = 1000
"""Limit of ``ListObjectsV2``."""

_NOT_OFFERED: Final = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
"""Answers of stores that do not know ``DeleteObjects``."""


class S3ObjectStore:
    """Objects of one bucket. Thread-safe.

    Every upload carries its MD5, so the store refuses damaged bytes (a transient error). ``put``
    then reads back the size and the SHA-256 that the store kept with the object. An upload cut off
    by a crash leaves parts behind, which only a lifecycle rule of the bucket removes
    (``AbortIncompleteMultipartUpload``).
    """

    def __init__(
        self, settings: StorageSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``settings`` may be sealed; ``clock`` returns monotonic seconds."""
        self._settings = settings
        self._opened: StorageSettings | None = None
        self._clock = clock
        self._reopen_at = 0.0
        self._bucket = settings.storage_bucket or ""
        self._endpoint = endpoint_of(settings)
        self._host = host_of(self._endpoint)
        self._where = f"Bucket {self._bucket!r} at {self._host or 'Amazon S3'}"
        self._deletes_many = True
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

    @property
    def location(self) -> str:
        return f"s3://{self._host or 's3.amazonaws.com'}/{self._bucket}"

    def check(self) -> None:
        content = uuid4().bytes
        with explained(self._where):
            client = self._client(CHECK)
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
                    "ContentDisposition": attachment(filename),
                    "Metadata": {"sha256": digest},
                },
                Config=self._transfer,
            )
            kept = client.head_object(Bucket=self._bucket, Key=key)
        if (kept["ContentLength"], kept["Metadata"].get("sha256")) != (len(data), digest):
            raise ObjectStoreError(f"{self._where} holds another object at {key} than was written.")
        return StoredObject(
            backend=self.backend, key=key, size=len(data), sha256=digest, location=self.location
        )

    def size(self, key: str) -> int | None:
        """Return None also if there is no such bucket: the answers to HEAD are the same."""
        found = self.find(key)
        return found.size if found else None

    def find(self, key: str) -> ListedObject | None:
        """As ``size``, None also if there is no such bucket."""
        require_sound(key)
        with explained(self._where):
            try:
                told = self._client().head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return None
                raise
        at = told["LastModified"].timestamp()
        return ListedObject(key, at, told["ContentLength"], told["ETag"])

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

    def objects(self, folder: str) -> Iterator[ListedObject]:
        require_sound(folder)
        with explained(self._where):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(
                Bucket=self._bucket,
                Prefix=f"{folder}/",
                Delimiter="/",
                PaginationConfig={"PageSize": MAX_LISTED_AT_ONCE},
            ):
                for item in page.get("Contents", ()):
                    at = item["LastModified"].timestamp()
                    yield ListedObject(item["Key"], at, item["Size"], item["ETag"])

    def delete(self, keys: Collection[str]) -> Mapping[str, ObjectStoreError]:
        failures: dict[str, ObjectStoreError] = {}
        sound = []
        for key in keys:
            try:
                require_sound(key)
            except ObjectStoreError as error:
                failures[key] = error
            else:
                sound.append(key)
        for start in range(0, len(sound), MAX_DELETED_AT_ONCE):
            with explained(self._where):
                failures |= self._delete(sound[start : start + MAX_DELETED_AT_ONCE])
        return failures

    def _delete(self, keys: list[str]) -> dict[str, ObjectStoreError]:
        client = self._client()
        if len(keys) > 1 and self._deletes_many:
            try:
                answer = client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
                )
            except ClientError as error:
                if code_of(error) not in _NOT_OFFERED:
                    raise
                self._deletes_many = False
            else:
                return {
                    refusal["Key"]: explanation(self._where, refusal["Code"])
                    for refusal in answer.get("Errors", ())
                    if refusal["Code"] != "NoSuchKey"
                }
        for key in keys:
            client.delete_object(Bucket=self._bucket, Key=key)
        return {}

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

    def _client(self, timing: Config = WORK) -> "S3Client":
        # Created at the first use, so wrong settings are reported where they can be shown.
        with self._lock:
            settings = self._with_keys()
            if timing not in self._clients:
                self._clients[timing] = connect(settings, self._endpoint, timing)
            return self._clients[timing]

    def _with_keys(self) -> StorageSettings:
        """Return the settings, opened; leave no client with keys that were changed since."""
        if self._opened is None or self._clock() >= self._reopen_at:
            try:
                opened = self._settings.opened()
            except ConfigurationError as error:
                if self._opened is None:
                    message = f"{self._where}: {error.message}"
                    raise ObjectStoreError(message, transient=False) from None
                # They may be being written just now.
                logger.warning("%s: the keys of before stay in use. %s", self._where, error.message)
                opened = self._opened
            if opened != self._opened:
                self._clients.clear()
            self._opened = opened
            self._reopen_at = self._clock() + REOPEN_PERIOD_S
        return self._opened
