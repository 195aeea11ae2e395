"""Audio that a client has sent, to be edited."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field

from sa_ray.contracts.access import Caller
from sa_ray.contracts.objects import MarkedFile, StoredObject
from sa_ray.contracts.record import Record

UPLOAD_ID_PATTERN = r"^[0-9a-f]{64}$"

UploadFormat = Literal["wav", "flac", "mp3", "ogg", "aiff"]


class ReadAudio(Record):
    """What reading a client's file has found, and how long it is as it is stored."""

    frames: int
    """Samples of each channel of the stored form, which has ``SAMPLE_RATE``."""
    sample_rate: int
    """Hz of the file that was sent, and so ``channels`` (1 or 2)."""
    channels: int
    format: UploadFormat


class Upload(ReadAudio):
    """Audio that a client has sent and that the object store holds.

    It is stored as FLAC of ``SAMPLE_RATE``, 16 or 24 bits and the channels that it had;
    ``sa_ray.audio.read_source`` reads that.
    """

    id: str
    """Lower-case hex SHA-256 of what was sent."""
    object: StoredObject
    marked: MarkedFile | None = None
    seconds: float
    """Of the stored form, exactly."""
    size_bytes: int
    """Of what was sent."""
    expires_at: float
    """Unix seconds, from which on requests cannot name it."""
    owners: tuple[str, ...] = ("",)
    """Names of the keys that sent it, and so may name it; empty: there were no keys."""

    def seen_by(self, caller: Caller) -> bool:
        """Return whether the upload exists for ``caller``."""
        return any(map(caller.sees, self.owners))


class UploadView(BaseModel):
    """An upload as a client sees it."""

    id: str = Field(description="What edits name it by.")
    seconds: float
    sample_rate: int = Field(description="Hz of the file that was sent. Edits work at 44,100 Hz.")
    channels: int
    format: UploadFormat = Field(description="Found by content; `ogg` is Vorbis or Opus.")
    size_bytes: int
    sha256: str = Field(description="Of the file that was sent.")
    expires_at: datetime = Field(
        description="Requests can name it until then. Sending the same file again renews it."
    )

    @staticmethod
    def of(upload: Upload) -> "UploadView":
        told = upload.model_dump(
            include={"id", "seconds", "sample_rate", "channels", "format", "size_bytes"}
        )
        expires_at = datetime.fromtimestamp(upload.expires_at, UTC)
        return UploadView(**told, sha256=upload.id, expires_at=expires_at)
