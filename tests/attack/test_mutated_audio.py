"""Files of six formats with random damage: each is read or refused, by a process that stays."""

import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile as sf

from sa_ray.audio import ReadingPool, read_source
from sa_ray.errors import InvalidRequestError

pytestmark = pytest.mark.attack

FORMATS = [
    ("WAV", "PCM_16", 44_100),
    ("WAV", "FLOAT", 48_000),
    ("FLAC", "PCM_24", 44_100),
    ("MP3", "MPEG_LAYER_III", 44_100),
    ("OGG", "VORBIS", 44_100),
    ("OGG", "OPUS", 48_000),
    ("AIFF", "PCM_16", 44_100),
]

OF_EACH = 300
MAX_SECONDS = 20.0
MOST_MIB = 400
"""That a process which reads them may take, at any time."""


def whole(container: str, subtype: str, rate: int) -> bytes:
    times = np.arange(rate // 2) / rate
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, (rate // 2, 2))
    file = io.BytesIO()
    with sf.SoundFile(file, "w", rate, 2, subtype, format=container) as out:
        out.title = "a title"
        out.write(noise + 0.5 * np.sin(2 * np.pi * 440 * times)[:, None])
    return file.getvalue()


def mutated(data: bytes, draw: np.random.Generator) -> bytes:
    """Change, cut, repeat or move some of ``data``; more often at its head, where the sizes are."""
    changed = bytearray(data)
    for _ in range(draw.integers(1, 8)):
        end = len(changed) if draw.random() < 0.5 else min(200, len(changed))
        at = int(draw.integers(0, max(end, 1)))
        length = int(draw.integers(1, 64))
        match draw.integers(0, 6):
            case 0:
                changed[at : at + length] = draw.bytes(length)
            case 1:
                changed[at : at + 4] = b"\xff\xff\xff\xff" if draw.random() < 0.5 else bytes(4)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length] * int(draw.integers(1, 100))
            case 4:
                del changed[max(at, 1) :]
            case _ if changed:
                place = min(at, len(changed) - 1)
                changed[place] ^= 1 << int(draw.integers(0, 8))
    return bytes(changed)


def mutants() -> Iterator[bytes]:
    draw = np.random.default_rng(20261126)
    for form in FORMATS:
        data = whole(*form)
        for _ in range(OF_EACH):
            yield mutated(data, draw)


def readers() -> dict[int, int]:
    """The processes that read, and the most MiB that each has taken."""
    peaks = {}
    for child in psutil.Process().children():
        if "sa_ray.audio.reading_worker" in child.cmdline():
            status = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            [peak] = (line.split()[1] for line in status if line.startswith("VmHWM"))
            peaks[child.pid] = int(peak) >> 10
    return peaks


def test_damaged_files_are_read_or_refused_within_bounds() -> None:
    pool = ReadingPool(timeout_s=20)
    outcomes: Counter[str] = Counter()
    known: set[int] = set()
    peak = 0
    for data in mutants():
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(data)
            source.flush()
            try:
                found = pool.read(source, target, MAX_SECONDS)
            except InvalidRequestError as refusal:
                outcomes["lost" if "could not be read" in refusal.message else "refused"] += 1
            else:
                target.seek(0)
                samples = read_source(target.read())
                assert samples.shape == (2, found.frames)
                assert 0 < found.frames <= MAX_SECONDS * 44_100 + 1
                assert np.abs(samples).max() <= 1
                outcomes["read"] += 1
        now = readers()
        known |= now.keys()
        peak = max(peak, *now.values())
    pool.close()

    print(f"{dict(outcomes)}, processes {len(known)}, peak {peak} MiB")
    assert outcomes.total() == OF_EACH * len(FORMATS) >= 2_000
    assert outcomes["read"] > 300
    assert outcomes["refused"] > 300
    assert outcomes["lost"] == 0
    assert len(known) == 1
    assert peak < MOST_MIB
