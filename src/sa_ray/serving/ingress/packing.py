"""Pack the clips of one request into one body: a zip, or the parts of ``multipart/mixed``."""

import hashlib
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sa_ray.contracts import MEDIA_TYPES, Manifest, PackedFile, ResolvedRequest
from sa_ray.serving.messages import EncodedAudio

MANIFEST: Final = "manifest.json"
ZIP: Final = "application/zip"
MULTIPART: Final = "multipart/mixed"

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The time of each file in a zip: the same clips make the same bytes."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A body in pieces, of which the clips are the very bytes that were made."""

    media_type: str
    pieces: list[bytes]

    @property
    def length(self) -> int:
        return sum(map(len, self.pieces))


def manifest_of(request: ResolvedRequest, clips: Sequence[EncodedAudio]) -> Manifest:
    """Describe ``clips``, whose names have the index from 0 and the seed."""
    files = [
        PackedFile(
            index=index,
            name=f"{index}-{clip.info.seed_of(request)}.{clip.info.format}",
            seed=clip.info.seed_of(request),
            size_bytes=len(clip.data),
            sha256=hashlib.sha256(clip.data).hexdigest(),
            audio_duration=clip.info.duration,
            warning=clip.info.warning,
        )
        for index, clip in enumerate(clips)
    ]
    return Manifest(model=request.model, engine=clips[0].info.engine, files=files)


def zipped(request: ResolvedRequest, clips: Sequence[EncodedAudio]) -> Packed:
    """Pack ``clips``, as they are, and the manifest behind them."""
    manifest = manifest_of(request, clips)
    sink = _Sink()
    with zipfile.ZipFile(cast(Any, sink), "w") as archive:
        for file, clip in zip(manifest.files, clips, strict=True):
            archive.writestr(zipfile.ZipInfo(file.name, _EPOCH), clip.data)
        archive.writestr(zipfile.ZipInfo(MANIFEST, _EPOCH), manifest.model_dump_json(indent=2))
    return Packed(ZIP, sink.pieces)


def in_parts(request: ResolvedRequest, clips: Sequence[EncodedAudio]) -> Packed:
    """Put the manifest and each of ``clips`` into a part of its own, in this order."""
    manifest = manifest_of(request, clips)
    boundary = uuid.uuid4().hex
    told = manifest.model_dump_json(indent=2).encode()
    pieces = [*_part(boundary, MANIFEST, "application/json", told)]
    for file, clip in zip(manifest.files, clips, strict=True):
        pieces += _part(boundary, file.name, MEDIA_TYPES[clip.info.format], clip.data)
    return Packed(f"{MULTIPART}; boundary={boundary}", [*pieces, f"--{boundary}--\r\n".encode()])


def _part(boundary: str, name: str, media_type: str, data: bytes) -> list[bytes]:
    head = (
        f"--{boundary}\r\n"
        f"Content-Type: {media_type}\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n'
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return [head.encode(), data, b"\r\n"]


class _Sink:
    """A file for ``ZipFile`` that keeps what is written without copying it.

    A head is written twice: once more when its file's checksum is known, to the same place.
    """

    def __init__(self) -> None:
        self._written: dict[int, bytes] = {}
        self._at = 0

    @property
    def pieces(self) -> list[bytes]:
        return list(self._written.values())

    def write(self, data: bytes) -> int:
        self._written[self._at] = data
        self._at += len(data)
        return len(data)

    def seek(self, place: int) -> int:
        self._at = place
        return place

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Do nothing: it is all in memory."""
