"""Files of clients are read by a process of their own, into the one form that is stored."""

import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import soundfile as sf

from sa_ray.audio import ReadingPool, read_source
from sa_ray.contracts import ReadAudio
from sa_ray.errors import GenerationError, InvalidRequestError

RATE = 44_100
MAX_SECONDS = 3.0

FORMATS = [
    ("WAV", "PCM_16", "wav"),
    ("FLAC", "PCM_24", "flac"),
    ("MP3", "MPEG_LAYER_III", "mp3"),
    ("OGG", "VORBIS", "ogg"),
    ("OGG", "OPUS", "ogg"),
    ("AIFF", "PCM_24", "aiff"),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[ReadingPool]:
    pool = ReadingPool(timeout_s=20)
    yield pool
    pool.close()


def read(pool: ReadingPool, data: bytes) -> tuple[ReadAudio, npt.NDArray[np.float32]]:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(data)
        source.flush()
        found = pool.read(source, target, MAX_SECONDS)
        target.seek(0)
        return found, read_source(target.read())


def refused(pool: ReadingPool, data: bytes) -> str:
    with pytest.raises(InvalidRequestError) as refusal:
        read(pool, data)
    assert refusal.value.param == "audio"
    return refusal.value.message


def written(
    samples: npt.NDArray[np.generic], rate: int = RATE, container: str = "WAV", subtype: str = ""
) -> bytes:
    """``samples``: ``[frames]`` or ``[frames, channels]``."""
    file = io.BytesIO()
    sf.write(file, samples, rate, format=container, subtype=subtype or None)
    return file.getvalue()


def tone(seconds: float, rate: int = RATE, channels: int = 2) -> npt.NDArray[np.float32]:
    times = np.arange(round(seconds * rate)) / rate
    one = 0.5 * np.sin(2 * np.pi * 440 * times)
    return np.stack([one * (1 - 0.2 * number) for number in range(channels)], 1).astype(np.float32)


@pytest.mark.parametrize(("container", "subtype", "named"), FORMATS)
def test_every_format_is_read_in_step_with_what_it_was_made_of(
    pool: ReadingPool, container: str, subtype: str, named: str
) -> None:
    rate = 48_000 if subtype == "OPUS" else RATE

    found, samples = read(pool, written(tone(1, rate), rate, container, subtype))

    assert (found.format, found.sample_rate, found.channels) == (named, rate, 2)
    assert samples.dtype == np.float32
    assert samples.shape == (2, found.frames)
    assert found.frames == pytest.approx(RATE, abs=2)
    middle = slice(4_000, 40_000)
    difference = samples[:, middle] - tone(1).T[:, middle]
    assert np.abs(difference).max() < (1e-3 if subtype.startswith("PCM") else 0.05)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "AIFF"])
@pytest.mark.parametrize("bits", [16, 24])
def test_samples_of_integers_at_our_rate_come_out_exactly(
    pool: ReadingPool, container: str, bits: int
) -> None:
    draw = np.random.default_rng(1)
    values = draw.integers(-(1 << bits - 1), 1 << bits - 1, (RATE, 2), dtype=np.int32)
    values[:2] = [[-(1 << bits - 1), (1 << bits - 1) - 1]] * 2

    data = written(values << (32 - bits), container=container, subtype=f"PCM_{bits}")
    _, samples = read(pool, data)

    assert np.array_equal(samples.T * (1 << bits - 1), values)


def test_a_mono_file_is_on_both_sides(pool: ReadingPool) -> None:
    found, samples = read(pool, written(tone(0.5, channels=1)))

    assert found.channels == 1
    assert samples.shape == (2, RATE // 2)
    assert np.array_equal(samples[0], samples[1])


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000, 96_000, 192_000])
def test_other_rates_are_resampled(pool: ReadingPool, rate: int) -> None:
    found, samples = read(pool, written(tone(1, rate), rate))

    assert found.sample_rate == rate
    assert found.frames == RATE
    middle = slice(2_000, 42_000)
    assert np.abs(samples[:, middle] - tone(1).T[:, middle]).max() < 1e-3


def test_floats_over_full_scale_are_clipped(pool: ReadingPool) -> None:
    _, samples = read(pool, written(3 * tone(0.1), subtype="FLOAT"))

    assert samples.max() == pytest.approx(1, abs=1e-6)
    assert samples.min() == -1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(pool: ReadingPool, value: float) -> None:
    samples = tone(2)
    samples[70_000, 1] = value

    assert "not numbers" in refused(pool, written(samples, subtype="FLOAT"))


def test_floats_at_the_scale_of_integers_are_refused(pool: ReadingPool) -> None:
    assert "full scale is 1" in refused(pool, written(20_000 * tone(0.1), subtype="FLOAT"))


def test_too_many_channels_and_odd_rates_are_refused_with_what_to_send(pool: ReadingPool) -> None:
    assert "8 channels" in (told := refused(pool, written(tone(0.1, channels=8))))
    assert "Mix it down to stereo" in told
    assert "4000 Hz" in (told := refused(pool, written(tone(0.1), 4_000)))
    assert "Resample it to 44100" in told
    assert "384000 Hz" in refused(pool, written(tone(0.1), 384_000))


@pytest.mark.parametrize(("container", "subtype"), [one[:2] for one in FORMATS])
def test_a_file_without_a_sample_is_refused(
    pool: ReadingPool, container: str, subtype: str
) -> None:
    rate = 48_000 if subtype == "OPUS" else RATE

    refused(pool, written(tone(0, rate), rate, container, subtype))


def test_what_is_not_audio_is_refused_with_what_is_taken(pool: ReadingPool) -> None:
    assert "empty" in refused(pool, b"")
    for data in (b"{}", b"\0" * 5_000, b"<html>" * 100, b"RIFF", b"OggS" + b"\0" * 300):
        assert "Send WAV, FLAC, MP3, Ogg" in refused(pool, data)
    # libsndfile reads these too.
    for other in ("AU", "CAF", "W64"):
        assert "Send WAV, FLAC, MP3, Ogg" in refused(pool, written(tone(0.1), container=other))


@pytest.mark.parametrize(("container", "subtype"), [one[:2] for one in FORMATS])
def test_a_file_longer_than_any_clip_is_refused(
    pool: ReadingPool, container: str, subtype: str
) -> None:
    rate = 48_000 if subtype == "OPUS" else RATE
    longer = tone(MAX_SECONDS + 1, rate)

    assert "longer than 3 s" in refused(pool, written(longer, rate, container, subtype))
    exact = written(longer[: int(MAX_SECONDS * rate)], rate, container, subtype)
    if container != "MP3":  # its encoder pads
        assert read(pool, exact)[0].frames == pytest.approx(MAX_SECONDS * RATE, abs=1)


def test_a_small_file_of_endless_silence_is_not_decoded_to_its_end(pool: ReadingPool) -> None:
    silence = written(np.zeros((RATE * 60, 1), np.int16), container="FLAC")
    hours = bytearray(silence)
    # The 36 bits of its length, in samples, become unknown.
    hours[21] &= 0xF0
    hours[22:26] = bytes(4)

    assert len(hours) < 1 << 20
    assert "longer than 3 s" in refused(pool, bytes(hours))


def test_a_file_that_breaks_off_is_refused_with_where(pool: ReadingPool) -> None:
    draw = np.random.default_rng(1).uniform(-0.5, 0.5, (2 * RATE, 2))
    whole = written(draw, container="FLAC")

    assert "breaks off or is damaged after" in refused(pool, whole[: len(whole) // 2])
    assert "whole" in refused(pool, whole[:60])


def test_a_wav_file_of_unknown_length_is_read_to_its_end(pool: ReadingPool) -> None:
    piped = bytearray(written(tone(1), subtype="PCM_16"))
    piped[4:8] = piped[40:44] = struct.pack("<I", 0xFFFFFFFF)

    assert read(pool, bytes(piped))[0].frames == RATE


def test_a_process_that_is_lost_is_replaced(pool: ReadingPool) -> None:
    data = written(tone(0.1))
    read(pool, data)
    workers = [
        one for one in psutil.Process().children() if "sa_ray.audio.reading_worker" in one.cmdline()
    ]
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGSEGV)
        worker.wait(10)

    # They were busy with nobody's file.
    for _ in range(len(workers) + 1):
        assert read(pool, data)[0].frames == 4_410


def test_a_process_gets_no_secret_and_ends_with_its_service() -> None:
    script = (
        "import tempfile, os, psutil; from sa_ray.audio import ReadingPool\n"
        "pool = ReadingPool()\n"
        "try: pool.read(tempfile.TemporaryFile(), tempfile.TemporaryFile(), 1)\n"
        "except Exception: pass\n"
        "[child] = psutil.Process().children()\n"
        "print(child.pid, 'A_SECRET' in child.environ(), flush=True)\n"
        "os._exit(1)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "A_SECRET": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout.split()

    assert told[1] == "False"
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(told[0])).wait(10)


def test_what_is_no_stored_upload_is_refused() -> None:
    for data in (b"", b"fLaC", written(tone(0.1, 8_000), 8_000)):
        with pytest.raises(GenerationError):
            read_source(data)
