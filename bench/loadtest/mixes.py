"""Mixes of requests: variants, lengths, formats, edits, clips at once and jobs."""

import io
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sa_ray.contracts import SAMPLE_RATE

PROMPT = "rain on a tin roof"
KEY_VARIABLE = "STABLE_AUDIO_API_KEY"
_seeds = itertools.count(1)


@dataclass(frozen=True)
class Kind:
    """One kind of request, drawn with ``weight``.

    ``fields``: of the generation request. ``job``: submitted, and followed to its end, else asked
    for and waited for. ``source``: seconds of audio that are uploaded first, and edited.
    """

    name: str
    fields: dict[str, Any]
    weight: float = 1.0
    job: bool = False
    source: float | None = None

    def body(self, duration: float | None = None) -> bytes:
        """Return a body with a seed of its own. ``duration``: other seconds of audio, but for an
        edit, which is as long as its source."""
        told = {"prompt": PROMPT, "seed": next(_seeds), **self.fields}
        if duration is not None and "init_audio" not in told:
            told["duration"] = duration
        return json.dumps(told).encode()

    def request(self, duration: float | None = None) -> bytes:
        """Return the whole HTTP request."""
        return post("/jobs" if self.job else "/generate", self.body(duration))

    def edits(self, upload_id: str) -> "Kind":
        """Return the kind, made from that upload."""
        fields = {**self.fields, "init_audio": upload_id, "init_noise_level": 0.6}
        fields.pop("duration", None)  # that of the upload
        return replace(self, fields=fields, source=None)


class Mix:
    """Draws kinds by their weights, the same ones for the same ``seed``."""

    def __init__(self, kinds: Sequence[Kind], seed: int = 0) -> None:
        self.kinds, self.seed = tuple(kinds), seed
        self._random = np.random.default_rng(seed)
        weights = np.array([kind.weight for kind in kinds])
        self._shares = weights / weights.sum()

    def draw(self) -> Kind:
        if len(self.kinds) == 1:
            return self.kinds[0]
        return self.kinds[self._random.choice(len(self.kinds), p=self._shares)]


def sync(model: str = "small-sfx", duration: float = 5.0, **fields: Any) -> Kind:
    """Return the kind of clips that their clients wait for."""
    return Kind("sync", {"model": model, "duration": duration, **fields})


def job(model: str = "small-sfx", duration: float = 5.0, **fields: Any) -> Kind:
    """Return the kind of jobs that their clients follow to the end."""
    return Kind("job", {"model": model, "duration": duration, **fields}, job=True)


MIXES: dict[str, tuple[Kind, ...]] = {
    "sync": (sync(),),
    "jobs": (job(),),
    "mixed": (
        replace(sync(), name="sync 5 s", weight=4),
        replace(sync(duration=30, format="flac"), name="sync 30 s FLAC", weight=2),
        replace(sync(format="mp3"), name="sync 5 s MP3", weight=1),
        replace(sync(), name="edit of 5 s", weight=1, source=5.0),
        replace(job(model="medium", duration=30), name="job of medium, 30 s", weight=2),
    ),
}
"""By name."""


def named(text: str) -> tuple[Kind, ...]:
    """Return the mix called ``text``, or the one in that JSON file: a list of ``Kind``'s fields.

    Raises ``ValueError`` that says what is wrong with it.
    """
    if text in MIXES:
        return MIXES[text]
    try:
        return tuple(Kind(**one) for one in json.loads(Path(text).read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{text} is none of {', '.join(MIXES)}, and no JSON file of a mix: {error}"
        ) from None


def source_file(seconds: float) -> bytes:
    """Return a WAV file of a tone."""
    wave = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)
    file = io.BytesIO()
    soundfile.write(file, np.stack([wave, wave], axis=1), SAMPLE_RATE, format="WAV")
    return file.getvalue()


def post(path: str, body: bytes, media_type: str = "application/json") -> bytes:
    """Return a request of HTTP/1.1, with the key of ``STABLE_AUDIO_API_KEY`` if that is set."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n{_authorization()}\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    """Return a request as ``post`` does."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{_authorization()}\r\n".encode()


def _authorization() -> str:
    key = os.environ.get(KEY_VARIABLE)
    return f"Authorization: Bearer {key}\r\n" if key else ""
