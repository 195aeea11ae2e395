"""Edits and loops over HTTP, on S3, answered at once and by jobs; and files made again."""

import io
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sa_ray.audio import encode, provenance_of
from sa_ray.contracts import CROSSFADE, SAMPLE_RATE
from tests.support.commands import Ended, run_here
from tests.support.service import Service

Samples = npt.NDArray[np.float64]

Make = Callable[..., bytes]

ROOT = Path(__file__).parents[2]

FADE = round(CROSSFADE * SAMPLE_RATE)


def at(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def read(data: bytes) -> Samples:
    samples, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    assert rate == SAMPLE_RATE
    found: Samples = samples.T
    return found


@pytest.fixture(scope="module")
def service(on_s3: Service) -> Service:
    return on_s3


@pytest.fixture(scope="module")
def sound() -> bytes:
    """Two seconds of noise at full scale, as a file of 16 bits."""
    noise = np.random.default_rng(1).uniform(-1, 1, (2, 2 * SAMPLE_RATE)).astype(np.float32)
    return encode(noise, SAMPLE_RATE, "wav", tags={})


@pytest.fixture(scope="module")
def upload(service: Service, sound: bytes) -> str:
    answer = service.http.post("/v1/uploads", content=sound, headers={"Content-Type": "audio/wav"})
    assert answer.is_success, answer.text
    upload_id: str = answer.json()["id"]
    return upload_id


@pytest.fixture(params=["sync", "job"])
def make(request: pytest.FixtureRequest, service: Service) -> Make:
    """Returns the file that a request makes."""

    def at_once(**body: Any) -> bytes:
        answer = service.generate(seed=1, steps=2, **body)
        assert answer.status_code == 200, answer.text
        assert (
            float(answer.headers["x-audio-duration"])
            == soundfile.info(io.BytesIO(answer.content)).frames / SAMPLE_RATE
        )
        return answer.content

    def by_job(**body: Any) -> bytes:
        job_id = service.submit(seed=1, steps=2, **body)
        assert service.wait_for(job_id)["status"] == "succeeded"
        audio = service.http.get(f"/jobs/{job_id}/audio", follow_redirects=True)
        assert audio.status_code == 200
        return audio.content

    return at_once if request.param == "sync" else by_job


def test_outside_its_regions_an_upload_comes_back_as_it_was(
    make: Make, sound: bytes, upload: str
) -> None:
    regions = [{"start": 1.5, "end": 2.0}, {"start": 0.5, "end": 0.9}]
    # A job of the fixture has a length of its own, and this is that of the upload.
    clip = read(make(inpaint_audio=upload, regions=regions, duration=2.0))

    source = read(sound)
    assert clip.shape == source.shape
    kept = np.ones(clip.shape[1], bool)
    for region in regions:
        new = slice(at(region["start"]), at(region["end"]))
        kept[new] = False
        assert (clip[:, new] != source[:, new]).any(axis=0).mean() > 0.95
        assert np.sqrt(np.mean(clip[:, new] ** 2)) > 0.05
    np.testing.assert_array_equal(clip[:, kept], source[:, kept])


def test_a_sound_goes_on_and_gets_an_intro(make: Make, sound: bytes, upload: str) -> None:
    clip = read(make(continue_audio=upload, intro=1.25, duration=4.0))

    assert clip.shape == (2, at(4.0))
    kept = slice(FADE, 2 * SAMPLE_RATE - FADE)
    found = clip[:, at(1.25) : at(3.25)][:, kept]
    np.testing.assert_array_equal(found, read(sound)[:, kept])
    for new in (slice(0, at(1.25)), slice(at(3.25), None)):
        assert np.sqrt(np.mean(clip[:, new] ** 2)) > 0.02


def test_a_clip_is_made_from_audio(make: Make, sound: bytes, upload: str) -> None:
    source = read(sound)
    asked = {"init_audio": upload, "duration": 2.0, "normalize": "none"}

    same = read(make(**asked, init_noise_level=0))
    half = read(make(**asked, init_noise_level=0.5))
    other = read(make(**asked, init_noise_level=1))

    np.testing.assert_array_equal(same, source)
    np.testing.assert_array_equal(other, read(make(duration=2.0)))
    alike = [np.corrcoef(one.ravel(), source.ravel())[0, 1] for one in (half, other)]
    assert alike[0] > 0.4
    assert abs(alike[1]) < 0.05


def test_a_loop_goes_over_into_itself_and_says_so(make: Make) -> None:
    file = make(loop=True, duration=3.0, prompt="a drum loop at 120 bpm")

    clip = read(file)
    assert clip.shape == (2, at(3.0))
    steps = np.abs(np.diff(clip, axis=1)).max(axis=0)
    assert np.abs(clip[:, 0] - clip[:, -1]).max() <= np.median(steps)
    chunk = file.index(b"smpl")
    loops, first, last = (
        struct.unpack_from("<I", file, chunk + 8 + place)[0] for place in (28, 44, 48)
    )
    assert (loops, first, last) == (1, 0, at(3.0) - 1)


def test_a_clip_is_as_long_as_what_it_is_made_from(
    service: Service, sound: bytes, upload: str
) -> None:
    for body in (
        {"init_audio": upload},
        {"inpaint_audio": upload, "regions": [{"start": 0, "end": 1}]},
    ):
        answer = service.generate(**body)

        assert answer.status_code == 200, answer.text
        assert answer.headers["x-audio-duration"] == "2.000000"
        assert read(answer.content).shape == read(sound).shape


@pytest.mark.parametrize("path", ["/v1/audio/generations", "/jobs"])
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"init_audio": "ef" * 32}, "init_audio"),
        ({"inpaint_audio": "x", "regions": [{"start": 0, "end": 1}]}, "inpaint_audio"),
        ({"regions": [{"start": 0}]}, "regions.0.end"),
        ({"regions": [{"start": 0, "end": 1, "stop": 2}]}, "regions.0.stop"),
        ({"loop": True, "fade_in": 1}, "fade_in"),
    ],
)
def test_what_cannot_be_edited_is_refused(
    service: Service, path: str, body: dict[str, Any], param: str
) -> None:
    answer = service.http.post(path, json={"prompt": "rain", **body})

    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["param"] == param
    assert param in error["message"]


def test_an_edit_is_made_again_from_its_file(service: Service, upload: str, tmp_path: Path) -> None:
    body = {"continue_audio": upload, "duration": 3.0, "intro": 0.5}
    made = service.generate(**body).content
    (tmp_path / "clip.wav").write_bytes(made)

    result = run_here("regenerate", "clip.wav", "--url", service.base_url, cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert "byte for byte" in result.stderr
    # Had it been of an upload that is not there:
    gone = made.replace(upload.encode(), b"ef" * 32)
    (tmp_path / "gone.wav").write_bytes(gone)
    result = run_here("regenerate", "gone.wav", "--url", service.base_url, cwd=tmp_path)
    assert result.returncode == 1
    assert "ef" * 32 in "".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="for what is shown with curl")
@pytest.mark.parametrize(
    ("page", "kind", "command", "made"),
    [
        ("docs/api.md", "sh", ["bash", "-ec"], {"tent": 4.0, "thunder": 4.0, "longer": 20.0}),
        ("docs/api.md", "python", [sys.executable, "-c"],
         {"tent": 4.0, "thunder": 4.0, "longer": 20.0, "drums": 8.0}),
    ],
)  # fmt: skip
def test_what_the_pages_show_works(
    service: Service,
    tmp_path: Path,
    page: str,
    kind: str,
    command: list[str],
    made: dict[str, float],
) -> None:
    blocks = re.findall(
        rf"^```{kind}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    shown = [block for block in blocks if re.search(r"@rain\.wav|upload\(.*rain\.wav", block)]
    (tmp_path / "rain.wav").write_bytes(service.generate(duration=4.0).content)

    for block in shown:
        code = block.replace("http://localhost:8000", service.base_url)
        result = subprocess.run(
            [*command, code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, result.stderr

    found = {one: soundfile.info(tmp_path / f"{one}.wav").duration for one in made}
    assert found == made


def test_the_command_line_sends_what_it_edits(
    service: Service, sound: bytes, tmp_path: Path
) -> None:
    (tmp_path / "in.wav").write_bytes(sound)

    def ask(*options: str) -> Ended:
        return run_here("generate", "rain", *options, "--url", service.base_url, cwd=tmp_path)

    done = ask("--inpaint", "in.wav", "--region", "0.5-0.9", "--region", "1.5-2", "-o", "out.flac")

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "out.flac"
    clip, source = read((tmp_path / "out.flac").read_bytes()), read(sound)
    kept = slice(at(0.9), at(1.5))
    np.testing.assert_array_equal(clip[:, kept], source[:, kept])
    assert not np.array_equal(clip, source)
    assert "--region" in ask("--inpaint", "in.wav", "--region", "1.5").stderr
    refused = ask("--continue", "in.wav")
    assert refused.returncode == 1
    assert "duration: say how long" in " ".join(refused.stderr.split())


@pytest.mark.parametrize("fmt", ["wav", "mp3"])
def test_a_file_is_made_again_byte_for_byte(service: Service, tmp_path: Path, fmt: str) -> None:
    made = service.generate(prompt="Glocken 🔔", duration=0.7, format=fmt, channels=1).content
    (tmp_path / f"bell.{fmt}").write_bytes(made)

    result = run_here("regenerate", f"bell.{fmt}", "--url", service.base_url, cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"bell-again.{fmt}"
    assert "byte for byte" in result.stderr
    assert (tmp_path / f"bell-again.{fmt}").read_bytes() == made


def test_a_file_of_another_is_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "bell.wav").write_bytes(b"RIFF")

    result = run_here("regenerate", "bell.wav", "--url", service.base_url, cwd=tmp_path)

    assert result.returncode == 1
    assert "not an audio file" in result.stderr
    assert "Traceback" not in result.stderr


def test_clips_of_one_command_are_files_with_their_seeds(service: Service, tmp_path: Path) -> None:
    result = run_here(
        "generate", "a bell", "-n", "2", "-o", "bell.wav", "--duration", "0.5",
        "--seed", "7", "--url", service.base_url, cwd=tmp_path,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["bell-1.wav", "bell-2.wav"]
    assert [line for line in result.stderr.splitlines() if "seed" in line] == ["seed 7", "seed 8"]
    alone = service.generate(prompt="a bell", duration=0.5, seed=8).content
    assert (tmp_path / "bell-2.wav").read_bytes() == alone
    assert provenance_of(tmp_path / "bell-2.wav").request.seed == 8
