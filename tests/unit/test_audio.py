"""Encoding and probing, checked by decoding what was encoded."""

import io
import subprocess
import time
import wave
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import imageio_ffmpeg
import mutagen
import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

from sa_ray import audio
from sa_ray.contracts import OPUS_SAMPLE_RATE, SAMPLE_RATE, AudioFormat
from sa_ray.errors import GenerationError, InvalidRequestError

FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)
LENGTHS = [1, 147, 1153, 44_100, 70_001]

REQUESTED_LENGTHS = [441, 600, 882, 1153, 2205, 44_100, 1_323_001]
"""Frames, from the shortest clip that can be asked for; below 0.05 s readers disagree most."""

Samples = npt.NDArray[np.float32]


def tones(frames: int, channels: int = 2) -> Samples:
    seconds = np.arange(frames) / SAMPLE_RATE
    hertz = np.array([[440.0], [660.0]])[:channels]
    return (0.5 * np.sin(2 * np.pi * hertz * seconds)).astype(np.float32)


def encode(samples: Samples, fmt: AudioFormat, tags: Mapping[str, str] | None = None) -> bytes:
    return audio.encode(samples, SAMPLE_RATE, fmt, tags=tags or {})


def decode(data: bytes, dtype: str = "float32") -> npt.NDArray[np.float32]:
    """Samples ``[channels, frames]``."""
    samples: npt.NDArray[np.float32] = sf.read(io.BytesIO(data), dtype=dtype, always_2d=True)[0]
    return samples.T


def frames_by_ffmpeg(data: bytes, tmp_path: Path) -> int:
    """Frames of the one format, 16-bit stereo, that FFmpeg decodes ``data`` to."""
    file = tmp_path / "clip"
    file.write_bytes(data)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", file, "-f", "s16le", "-"]
    decoded = subprocess.run(command, check=True, capture_output=True)
    assert not decoded.stderr
    return len(decoded.stdout) // 4


def tags_of(data: bytes) -> dict[str, str]:
    with sf.SoundFile(io.BytesIO(data)) as file:
        return dict(file.copy_metadata())


@pytest.mark.parametrize("frames", LENGTHS)
def test_a_wav_header_states_exactly_what_was_encoded(frames: int) -> None:
    data = encode(tones(frames), "wav", {"title": "odd"})

    with wave.open(io.BytesIO(data)) as file:
        assert file.getnframes() == frames
        assert file.getframerate() == SAMPLE_RATE
        assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
        assert len(file.readframes(frames)) == 4 * frames
    assert int.from_bytes(data[4:8], "little") == len(data) - 8


@pytest.mark.parametrize("fmt", ["wav", "flac"])
def test_pcm_is_rounded_to_the_nearest_step_and_clipped(fmt: AudioFormat) -> None:
    steps = np.array([0.0, 0.4, 0.6, 1.6, -0.6, -1.4, 16384, 32766.4], np.float32) / 32768
    loud = np.array([1.0, 1.5, -1.0, -1.5], np.float32)
    samples = np.concatenate([steps, loud])[np.newaxis]

    decoded = decode(encode(samples, fmt), dtype="int16")[0]

    assert decoded[: len(steps)].tolist() == [0, 0, 1, 2, -1, -1, 16384, 32766]
    assert decoded[len(steps) :].tolist() == [32767, 32767, -32768, -32768]


@pytest.mark.parametrize("fmt", ["wav", "flac"])
def test_what_has_16_bits_survives_unchanged(fmt: AudioFormat) -> None:
    steps = np.random.default_rng(0).integers(-32768, 32767, (2, 70_001), endpoint=True)
    samples = (steps / 32768).astype(np.float32)

    assert np.array_equal(decode(encode(samples, fmt)), samples)


@pytest.mark.parametrize("fmt", ["wav", "flac"])
def test_24_bits_are_rounded_to_the_nearest_step_and_clipped(fmt: AudioFormat) -> None:
    steps = np.array([0.0, 0.4, 0.6, 100_000.6, -0.6, 8_388_000], np.float32) / 2**23
    samples = np.concatenate([steps, np.array([1.5, -1.5], np.float32)])[np.newaxis]

    data = audio.encode(samples, SAMPLE_RATE, fmt, tags={}, bit_depth=24)

    with sf.SoundFile(io.BytesIO(data)) as file:
        assert file.subtype == "PCM_24"
    decoded = decode(data, dtype="int32")[0] >> 8
    assert decoded.tolist() == [0, 0, 1, 100_001, -1, 8_388_000, 8_388_607, -8_388_608]


def test_a_wav_of_floats_keeps_every_sample_and_repeats_byte_for_byte() -> None:
    samples = np.random.default_rng(5).uniform(-1, 1, (2, 70_001)).astype(np.float32)

    first, second = (
        audio.encode(samples, SAMPLE_RATE, "wav", tags={"title": "rain"}, bit_depth=32)
        for _ in at_two_times()
    )

    assert first == second
    assert np.array_equal(decode(first), samples)
    assert tags_of(first)["title"] == "rain"


def at_two_times() -> Iterator[None]:
    """Go on in the next second, by which a header could tell two files apart."""
    yield
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.01)
    yield


@pytest.mark.parametrize(
    ("rate", "bitrate"), [(44_100, 32), (48_000, 64), (44_100, 320), (22_050, 160)]
)
def test_an_mp3_has_the_bitrate_that_was_asked_for(rate: int, bitrate: int) -> None:
    data = audio.encode(tones(2 * rate), rate, "mp3", tags={}, bitrate=bitrate)

    info = mutagen.File(io.BytesIO(data)).info
    assert (info.sample_rate, round(info.bitrate / 1000)) == (rate, bitrate)
    if bitrate >= 64:  # the header that tells the length does not fit into smaller frames
        assert audio.probe(data).frames == 2 * rate


@pytest.mark.parametrize(("channels", "bitrate"), [(1, 32), (1, 256), (2, 32), (2, 320)])
def test_opus_has_about_the_bitrate_that_was_asked_for(channels: int, bitrate: int) -> None:
    noise = np.random.default_rng(1).standard_normal((channels, 4 * SAMPLE_RATE)) / 4

    data = audio.encode(noise.astype(np.float32), SAMPLE_RATE, "ogg", tags={}, bitrate=bitrate)

    assert len(data) * 8 / 4 / 1000 == pytest.approx(bitrate, rel=0.15)


@pytest.mark.parametrize("fmt", FORMATS)
def test_encoding_leaves_the_samples_alone(fmt: AudioFormat) -> None:
    samples = 3 * tones(1000, channels=1)
    before = samples.copy()

    encode(samples, fmt)

    assert np.array_equal(samples, before)


@pytest.mark.parametrize("frames", LENGTHS)
def test_an_mp3_decodes_to_the_exact_length(frames: int) -> None:
    data = encode(tones(frames), "mp3")

    assert audio.probe(data) == audio.AudioProbe(SAMPLE_RATE, 2, frames, "mp3")
    assert decode(data).shape == (2, frames)


@pytest.mark.parametrize("frames", LENGTHS)
def test_opus_decodes_to_the_exact_length_at_48_khz(frames: int) -> None:
    data = encode(tones(frames), "ogg")

    with sf.SoundFile(io.BytesIO(data)) as file:
        assert (file.samplerate, file.channels, file.subtype) == (48_000, 2, "OPUS")
    assert abs(decode(data).shape[1] - frames * 48_000 / SAMPLE_RATE) <= 0.5


@pytest.mark.parametrize("frames", REQUESTED_LENGTHS)
@pytest.mark.parametrize("fmt", FORMATS)
def test_other_readers_find_the_exact_length(tmp_path: Path, fmt: AudioFormat, frames: int) -> None:
    data = encode(tones(frames), fmt, {"title": "rain", "comment": "seed=7"})

    expected = round(frames * OPUS_SAMPLE_RATE / SAMPLE_RATE) if fmt == "ogg" else frames
    assert frames_by_ffmpeg(data, tmp_path) == expected
    length = mutagen.File(io.BytesIO(data)).info.length
    assert length == pytest.approx(frames / SAMPLE_RATE, abs=1e-4)


@pytest.mark.parametrize("bits", [24, 32])
@pytest.mark.parametrize("channels", [1, 2])
def test_other_readers_take_every_depth_of_a_wav_file(
    tmp_path: Path, bits: int, channels: int
) -> None:
    samples = tones(1153, channels)
    data = audio.encode(samples, SAMPLE_RATE, "wav", tags={"title": "rain"}, bit_depth=bits)

    assert frames_by_ffmpeg(data, tmp_path) == 1153 * channels // 2
    info = mutagen.File(io.BytesIO(data)).info
    assert (info.channels, info.bits_per_sample) == (channels, bits)
    assert np.array_equal(decode(data), samples) or bits == 24
    assert np.allclose(decode(data), samples, atol=2**-23)


@pytest.mark.parametrize("fmt", ["mp3", "ogg"])
def test_lossy_formats_keep_channels_pitch_and_timing(fmt: AudioFormat) -> None:
    samples = tones(2 * SAMPLE_RATE)
    samples[:, : SAMPLE_RATE // 2] = 0

    data = encode(samples, fmt)

    decoded, rate = decode(data), audio.probe(data).sample_rate
    onset = rate // 2
    for channel, hertz in zip(decoded, (440, 660), strict=True):
        spectrum = np.abs(np.fft.rfft(channel[rate:]))
        assert spectrum.argmax() * rate / len(channel[rate:]) == pytest.approx(hertz, abs=1)
        # Silence until shortly before the onset, full level shortly after.
        assert np.abs(channel[: onset - rate // 50]).max() < 0.01
        assert np.abs(channel[onset + rate // 200 : onset + rate // 50]).max() > 0.4


@pytest.mark.parametrize("fmt", FORMATS)
def test_mono_is_encoded(fmt: AudioFormat) -> None:
    assert audio.probe(encode(tones(5000, channels=1), fmt)).channels == 1


@pytest.mark.parametrize("fmt", FORMATS)
def test_tags_are_written(fmt: AudioFormat) -> None:
    tags = {
        "title": "rain, Möwen 雨 \N{BELL}",
        "comment": "seed=7",
        "software": "sa-ray (procedural)",
    }

    written = tags_of(encode(tones(1000), fmt, tags))

    assert written["title"] == tags["title"]
    assert written["comment"] == tags["comment"]
    assert written["software"].startswith(tags["software"])


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_wav_file_names_nobody_else(bits: int) -> None:
    samples, tags = tones(1000), {"software": "sa-ray (procedural)"}

    assert tags_of(audio.encode(samples, SAMPLE_RATE, "wav", tags=tags, bit_depth=bits)) == tags


def test_other_readers_find_the_tags_of_an_mp3_file() -> None:
    title = "rain, Möwen 雨 \N{BELL}"

    written = mutagen.File(
        io.BytesIO(encode(tones(1000), "mp3", {"title": title, "comment": "seed=7"}))
    )

    assert written.tags.version == (2, 3, 0)
    assert written.tags["TIT2"].text == [title]
    assert [comment.text for comment in written.tags.getall("COMM")] == [["seed=7"]]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("odd", ["\ufffe", "\uffff"])
def test_a_character_that_is_none_is_replaced_not_its_whole_title(
    fmt: AudioFormat, odd: str
) -> None:
    written = tags_of(encode(tones(1000), fmt, {"title": f"{odd}rain{odd}"}))

    assert written["title"] == "\ufffdrain\ufffd"


def test_the_audio_of_a_wav_file_begins_at_byte_44() -> None:
    data = encode(tones(1000), "wav", {"title": "rain", "software": "sa-ray (procedural engine)"})

    assert data[36:40] == b"data"
    assert int.from_bytes(data[40:44], "little") == 4 * 1000
    names = data[44 + 4 * 1000 :]
    assert names.startswith(b"LIST")
    assert b"ISFT" in names
    assert b"sa-ray (procedural engine)" in names


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    "text", ["x" * 10_000, "\N{CLOUD WITH RAIN}" * 10_000, "", "a\0b", "\ud800"]
)
def test_no_prompt_breaks_a_file(fmt: AudioFormat, text: str) -> None:
    data = encode(tones(5000), fmt, {"title": text, "comment": "engine=procedural"})

    assert audio.probe(data).frames in (5000, 5442)
    assert tags_of(data)["comment"] == "engine=procedural"


def test_an_unknown_tag_is_an_error() -> None:
    with pytest.raises(ValueError, match="composer"):
        encode(tones(10), "wav", {"composer": "x"})


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_an_error(fmt: AudioFormat, bad: float) -> None:
    samples = tones(70_000)
    samples[1, 69_999] = bad

    with pytest.raises(GenerationError, match="not numbers"):
        encode(samples, fmt)


@pytest.mark.parametrize("fmt", ["wav", "flac", "mp3"])
def test_the_same_samples_give_the_same_bytes(fmt: AudioFormat) -> None:
    assert encode(tones(5000), fmt) == encode(tones(5000), fmt)


def test_the_same_samples_give_the_same_sound_in_ogg() -> None:
    first, second = encode(tones(5000), "ogg"), encode(tones(5000), "ogg")

    assert np.array_equal(decode(first), decode(second))


def test_threads_encode_at_once() -> None:
    clips = [tones(20_000 + n) for n in range(8)]
    expected = [encode(clip, "mp3") for clip in clips]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda clip: encode(clip, "mp3"), clips)) == expected


@pytest.mark.parametrize("fmt", FORMATS)
def test_probe_tells_what_a_file_holds(fmt: AudioFormat) -> None:
    found = audio.probe(encode(tones(44_100), fmt))

    assert found.format == fmt
    assert (found.channels, found.duration) == (2, 1.0)
    assert found.frames == found.sample_rate


@pytest.mark.parametrize(
    "data",
    [b"", b"RIFF", b"not audio at all" * 100, b"\x89PNG\r\n\x1a\n" + bytes(1000), bytes(5000)],
)
def test_probe_refuses_what_is_not_audio(data: bytes) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        audio.probe(data)
    assert refusal.value.param == "audio"


def test_probe_refuses_a_file_without_sound() -> None:
    with pytest.raises(InvalidRequestError, match="no sound"):
        audio.probe(encode(tones(0), "wav"))


def test_probe_reads_what_we_do_not_write() -> None:
    file = io.BytesIO()
    sf.write(file, tones(100).T, 22_050, format="AIFF")

    assert audio.probe(file.getvalue()) == audio.AudioProbe(22_050, 2, 100, "aiff")
