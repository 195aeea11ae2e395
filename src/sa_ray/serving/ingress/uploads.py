"""Take the audio that clients send to be edited: check it, store it, find it again."""

import asyncio
import hashlib
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import ray

from sa_ray.audio import ReadingPool, has_manifest
from sa_ray.audio.reading_pool import MAX_AT_ONCE
from sa_ray.contracts import UPLOAD_ID_PATTERN, ReadAudio, Upload
from sa_ray.contracts.access import Caller
from sa_ray.errors import ConflictError, UnavailableError, UploadNotFoundError
from sa_ray.jobs import JobSnapshot
from sa_ray.jobs.sources import sources_in_use
from sa_ray.serving.actors import JobsClient, UploaderClient
from sa_ray.serving.streamed_bodies import file_too_large
from sa_ray.storage import in_thread

STORE_TIMEOUT_S: Final = 120.0
"""Timeout of storing a file: one of the longest clip takes up to 100 MB."""

RETRY_AFTER_S: Final = 30


class ReceivedFile:
    """A file of a client as it comes, on disk without a name, so that nothing can be left of it.

    For a ``with`` statement. Methods block.
    """

    def __init__(self, max_mb: int) -> None:
        self._max_mb = max_mb
        self._digest = hashlib.sha256()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of the block
        self.size = 0
        """Bytes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()

    def write(self, data: bytes) -> None:
        """Raises ``PayloadTooLargeError`` at the first byte too many, and ``UnavailableError``."""
        self.size += len(data)
        if self.size > self._max_mb << 20:
            raise file_too_large(self._max_mb)
        self._digest.update(data)
        try:
            self.file.write(data)
        except OSError as error:
            raise no_room(error) from error

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class ClientUploads:
    """Uploads as the routes know them. For one event loop.

    Every method may raise ``ObjectStoreError``.
    """

    def __init__(
        self, uploader: UploaderClient, jobs: JobsClient, max_mb: int, max_seconds: float
    ) -> None:
        self._uploader = uploader
        self._jobs = jobs
        self._max_seconds = max_seconds
        self._pool = ReadingPool()
        self._threads = ThreadPoolExecutor(MAX_AT_ONCE, "read-upload")
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self.max_mb = max_mb

    async def take(self, received: ReceivedFile, caller: Caller) -> Upload:
        """Check the audio of a file and store it, unless the same is there: that is renewed, and
        is the caller's too.

        Raises ``InvalidRequestError`` (param ``audio``) if it is not taken.
        """
        if kept := await self._uploader.renew_input(received.sha256, caller.name):
            return kept
        async with self._slots:
            read, files = await in_thread(self._threads, lambda: self._read(received))
            # Out of reach here, so that they are freed as soon as they are stored.
            references = [await asyncio.to_thread(ray.put, data) for data in files]
            del files
            return await self._uploader.within(STORE_TIMEOUT_S).keep_input(
                received.sha256, read, received.size, references, caller.name
            )

    async def find(self, upload_id: str, caller: Caller) -> Upload:
        """Return an upload that requests of ``caller`` may name. Raises ``UploadNotFoundError``."""
        known = re.fullmatch(UPLOAD_ID_PATTERN, upload_id)
        upload = await self._uploader.find_input(upload_id) if known else None
        if upload is None or not upload.seen_by(caller):
            raise UploadNotFoundError(
                f"There is no upload {upload_id[:80]}: it may have expired. Send the audio to "
                "POST /v1/uploads, and give the id that the answer has."
            )
        return upload

    async def remove(self, upload_id: str, caller: Caller) -> None:
        """Delete an upload, or the caller's right to it where it is others' too.

        Raises ``UploadNotFoundError``, and ``ConflictError`` if a job is yet to be made from it.
        """
        upload = await self.find(upload_id, caller)
        owner = caller.name if caller.name in upload.owners else None
        if owner is None or upload.owners == (owner,):
            await self._require_unused(upload, caller)
        await self._uploader.remove_input(upload_id, owner)

    async def _require_unused(self, upload: Upload, caller: Caller) -> None:
        job_id = (await sources_in_use(self._jobs)).get(upload.object.key)
        if job_id is None:
            return
        [found] = await self._jobs.get_all([job_id])
        named = isinstance(found, JobSnapshot) and caller.sees(found.job.owner)
        raise ConflictError(
            f"{f'Job {job_id}' if named else 'A job'} is made from this upload. Cancel the job, or "
            "wait until it has ended, and delete the upload then."
        )

    def _read(self, received: ReceivedFile) -> tuple[ReadAudio, list[bytes]]:
        """Return what there is to keep: the stored form, and what was sent if it is marked."""
        with tempfile.TemporaryFile() as stored:
            try:
                received.file.flush()
            except OSError as error:
                raise no_room(error) from error
            read = self._pool.read(received.file, stored, self._max_seconds)
            stored.seek(0)
            files = [stored.read()]
        if has_manifest(received.file):
            received.file.seek(0)
            files.append(received.file.read())
        return read, files


def no_room(error: OSError) -> UnavailableError:
    """Return the error of a file that cannot be written to the disk of the ingress."""
    return UnavailableError(
        f"The service cannot hold the file now ({error.strerror}). Try again in {RETRY_AFTER_S} s.",
        retry_after_s=RETRY_AFTER_S,
    )
