"""Names and constants that every layer shares."""

from typing import Literal

VariantName = Literal["small-sfx", "small-music", "medium"]
AudioFormat = Literal["wav", "flac", "mp3", "ogg"]
JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
StorageBackend = Literal["local", "s3"]
EngineName = Literal["procedural", "stable-audio-3"]
Priority = Literal["high", "normal", "low"]
Sampler = Literal["pingpong", "euler", "dpmpp"]

FINAL_STATUSES: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

SAMPLE_RATE = 44_100
"""Hz; every variant of Stable Audio 3 produces this rate (its ``model_config.json``)."""

OPUS_SAMPLE_RATE = 48_000
"""Hz; the rate at which Opus codes the full band (RFC 6716, section 2). It has no 44.1 kHz."""

MEDIA_TYPES: dict[AudioFormat, str] = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
}

RESERVED_NAMES = ".sa-ray-"
"""Prefix of an object store's own names (health probes, half-written files)."""

JOB_ID_PATTERN = r"^[0-9a-f]{32}$"


MAX_KEY_BYTES = 1024
"""Longest key of an object, in UTF-8 (Amazon S3, "Creating object key names")."""


def is_sound_key(key: str) -> bool:
    """Return whether ``key`` can be the key of an object, and stays inside its store.

    A relative path of printable characters can, of at most ``MAX_KEY_BYTES``, without empty, ``.``,
    ``..`` or reserved segments.
    """
    if not key.isprintable() or len(key.encode()) > MAX_KEY_BYTES:
        return False
    return not any(
        segment in ("", ".", "..") or segment.startswith(RESERVED_NAMES)
        for segment in key.split("/")
    )
