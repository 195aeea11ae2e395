"""The manifest of a batch: what became of each request, so that the batch can be resumed."""

import fcntl
import hashlib
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from sa_ray.cli.batch_rows import Row
from sa_ray.contracts import JobView, PackedFile
from sa_ray.errors import InvalidRequestError

NAME: Final = "manifest.jsonl"


class Batch(BaseModel):
    """First line: the batch, whose id makes each of its requests one job, however often it runs."""

    batch: str


class Entry(BaseModel):
    """What became of one request; the last entry of a request counts."""

    line: int
    digest: str
    """As of ``Row``."""
    key: str
    """Idempotency key of its job."""
    job_id: str | None = None
    files: list[PackedFile] = []
    """Named relative to the folder; empty if it failed."""
    error: str | None = None
    """Why; null: it succeeded."""


class BatchManifest:
    """The manifest in ``folder``, which is made with it. Thread-safe.

    Raises ``InvalidRequestError`` if there is one that cannot be read, or that another run holds.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / NAME
        self._lock = threading.Lock()
        self._hold()
        if not self._file.stat().st_size:
            self._append(Batch(batch=uuid.uuid4().hex))
        text = self._file.read_text("utf-8")
        if not text.endswith("\n"):
            with self._file.open("a") as file:
                file.write("\n")
        first, *rest = text.split("\n")
        try:
            self._batch = Batch.model_validate_json(first).batch
            # A line that was cut off, as when the machine stopped, counts for nothing.
            entries = [entry for text in rest if (entry := _entry(text))]
        except ValidationError:
            raise InvalidRequestError(
                f"{self._file} is no manifest of a batch. Choose another folder."
            ) from None
        self._entries = {entry.digest: entry for entry in entries}

    def close(self) -> None:
        """Let other runs have the folder."""
        self._held.close()

    def _hold(self) -> None:
        """Keep other runs off the folder, whose files would be written by both."""
        self._held = self._file.open("a")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequestError(
                f"Another run writes into {self._folder}. Wait for its end, or choose another "
                "folder."
            ) from None
        except OSError:
            return  # a file system without locks

    def key(self, row: Row) -> str:
        """Return the idempotency key of ``row``: running again finds its job, if there is one.

        After a job that failed it is another, so that it is tried anew.
        """
        entry = self._entries.get(row.digest)
        if entry and (entry.error is None or entry.job_id is None):
            return entry.key
        text = f"{self._batch} {row.digest} {entry.job_id if entry else ''}"
        return hashlib.sha256(text.encode()).hexdigest()

    def made(self, row: Row) -> bool:
        """Return whether the files of ``row`` are there."""
        entry = self._entries.get(row.digest)
        return entry is not None and entry.error is None and all(map(self._is_there, entry.files))

    def succeeded(self, row: Row, job: JobView, paths: Sequence[Path]) -> Entry:
        """Note the files of ``row``, and return the entry."""
        files = [
            PackedFile.model_validate(
                made.model_dump() | {"name": path.relative_to(self._folder).as_posix()}
            )
            for path, made in zip(paths, job.results, strict=True)
        ]
        return self._add(row, job.id, files, None)

    def failed(self, row: Row, error: str, job_id: str | None) -> Entry:
        """Note why ``row`` has no files. ``job_id``: of the job that failed, if there was one."""
        return self._add(row, job_id, [], error)

    def _is_there(self, file: PackedFile) -> bool:
        path = self._folder / file.name
        return path.is_file() and path.stat().st_size == file.size_bytes

    def _add(
        self, row: Row, job_id: str | None, files: list[PackedFile], error: str | None
    ) -> Entry:
        with self._lock:
            entry = Entry(
                line=row.line,
                digest=row.digest,
                key=self.key(row),
                job_id=job_id,
                files=files,
                error=error,
            )
            self._entries[entry.digest] = entry
            self._append(entry)
        return entry

    def _append(self, line: BaseModel) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json() + "\n")


def _entry(text: str) -> Entry | None:
    try:
        return Entry.model_validate_json(text)
    except ValidationError:
        return None
