"""What a clip is made from besides its prompt: audio that a client uploaded, and its places."""

from pydantic import BaseModel

from sa_ray.contracts.objects import MarkedFile, StoredObject
from sa_ray.contracts.record import Record


class Region(Record):
    """A stretch of a clip, in seconds from its start: ``0 <= start < end <= duration``."""

    start: float
    end: float


class Source(Record):
    """Uploaded audio that a clip is made from. The audio itself stays in the object store."""

    upload_id: str
    object: StoredObject
    marked: MarkedFile | None = None
    """What a signed edit names as its ingredient, in place of ``object``; null: it has no mark."""
    seconds: float
    at: float = 0.0
    """Seconds into the clip at which it begins."""


class EditFields(BaseModel):
    """Choices about an edit, as they are resolved and stored. None: the prompt alone.

    With ``regions``, those are made anew and the rest is ``source`` (inpainting, continuation,
    outpainting). Without, the whole clip is made anew from ``source`` (audio-to-audio).
    """

    source: Source | None = None
    init_noise_level: float | None = None
    """Audio-to-audio: 0 leaves the source as it is, 1 leaves nothing of it."""
    regions: tuple[Region, ...] = ()
    """In order, and apart from each other."""
    loop: bool = False
    """The end of the clip goes over into its start."""
