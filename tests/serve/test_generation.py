"""Synchronous generation over HTTP."""

import hashlib
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes

import httpx
import numpy as np
import pytest
import soundfile

from tests.support.service import Service, server_timing


def test_the_old_servers_example_answers_with_wav(service: Service) -> None:
    response = service.http.post(
        "/v1/audio/generations",
        json={
            "model": "small-sfx",
            "prompt": "chugging train coming into station with horn",
            "duration": 7,
            "steps": 8,
            "cfg_scale": 1.0,
            "seed": -1,
        },
    )

    assert response.status_code == 200
    assert response.headers["content-type"] == "audio/wav"
    assert (
        response.headers["content-disposition"]
        == 'attachment; filename="stable-audio-3-small-sfx.wav"'
    )
    assert response.headers["x-model"] == "small-sfx"
    assert response.headers["x-sample-rate"] == "44100"
    assert response.headers["x-engine"] == "procedural"
    assert response.headers["x-request-id"]
    assert 0 <= int(response.headers["x-seed"]) < 2**32
    info = soundfile.info(io.BytesIO(response.content))
    assert (info.samplerate, info.channels, info.frames) == (44_100, 2, 7 * 44_100)
    assert info.subtype == "PCM_16"
    assert float(response.headers["x-audio-duration"]) == 7.0


@pytest.mark.parametrize("n", [1, 2])
def test_an_answer_says_where_its_time_went(service: Service, n: int) -> None:
    spans = server_timing(service.generate(duration=1, n=n))

    assert [*spans] == ["queue", "engine", "encode", "total"]
    queue, engine, encode, total = spans.values()
    assert 0 < engine < total
    assert 0 <= encode < total
    assert queue + engine + encode <= total + 1


def test_generate_is_an_alias(service: Service) -> None:
    body = {"prompt": "a bell", "duration": 1, "seed": 5}

    alias = service.http.post("/generate", json=body)
    direct = service.http.post("/v1/audio/generations", json=body)

    assert alias.status_code == 200
    assert alias.content == direct.content


@pytest.mark.parametrize(
    "name",
    ["small-music", "SMALL-MUSIC", "stable-audio-3-small-music",
     "stabilityai/stable-audio-3-small-music"],
)  # fmt: skip
def test_model_aliases_in_any_case(service: Service, name: str) -> None:
    response = service.generate(model=name, duration=0.5)

    assert response.status_code == 200
    assert response.headers["x-model"] == "small-music"


def test_medium_makes_what_the_small_models_cannot(service: Service) -> None:
    assert service.generate(model="small-sfx", duration=121).status_code == 422

    response = service.generate(model="medium", duration=121, steps=1)

    assert response.status_code == 200
    assert response.headers["x-audio-duration"] == "121.000000"


def test_a_drawn_seed_is_returned_and_repeats_the_audio(service: Service) -> None:
    first = service.generate(duration=1)
    again = service.generate(duration=1, seed=int(first.headers["x-seed"]))
    other = service.generate(duration=1)

    assert again.content == first.content
    assert other.headers["x-seed"] != first.headers["x-seed"]
    assert other.content != first.content


@pytest.mark.parametrize(
    ("fmt", "media_type", "rate"),
    [
        ("wav", "audio/wav", 44_100),
        ("flac", "audio/flac", 44_100),
        ("mp3", "audio/mpeg", 44_100),
        ("ogg", "audio/ogg", 48_000),
    ],
)
def test_every_format_is_what_it_says(
    service: Service, fmt: str, media_type: str, rate: int
) -> None:
    response = service.generate(format=fmt, duration=2, seed=1)

    assert response.headers["content-type"] == media_type
    assert response.headers["content-disposition"].endswith(f'.{fmt}"')
    samples, sample_rate = soundfile.read(io.BytesIO(response.content))
    assert sample_rate == rate
    assert samples.shape[1] == 2
    assert len(samples) / rate == pytest.approx(2, abs=0.1)
    assert np.abs(samples).max() > 0.05


@pytest.mark.parametrize(
    ("fields", "rate", "channels", "subtype"),
    [
        ({"sample_rate": 48_000, "bit_depth": 24}, 48_000, 2, "PCM_24"),
        ({"channels": 1, "bit_depth": 32, "normalize": "peak"}, 44_100, 1, "FLOAT"),
        ({"format": "flac", "sample_rate": 22_050, "fade_out": 1.0}, 22_050, 2, "PCM_16"),
        ({"format": "mp3", "bitrate": 320, "normalize": "loudness"}, 44_100, 2, "MPEG_LAYER_III"),
        ({"format": "ogg", "bitrate": 64, "channels": 1}, 48_000, 1, "OPUS"),
    ],
)
def test_a_file_is_as_it_was_asked_for(
    service: Service, fields: dict[str, object], rate: int, channels: int, subtype: str
) -> None:
    response = service.generate(duration=2, seed=1, **fields)

    assert response.headers["x-sample-rate"] == str(rate)
    assert response.headers["x-audio-duration"] == "2.000000"
    with soundfile.SoundFile(io.BytesIO(response.content)) as file:
        assert (file.samplerate, file.channels, file.subtype) == (rate, channels, subtype)
        samples = file.read()
    assert len(samples) == 2 * rate
    assert np.abs(samples).max() > 0.05


def test_a_job_makes_the_same_file_as_a_request(service: Service) -> None:
    body = {"prompt": "a bell", "duration": 1, "seed": 5, "channels": 1, "bit_depth": 24,
            "sample_rate": 48_000, "normalize": "loudness", "fade_in": 0.1}  # fmt: skip

    job = service.wait_for(service.submit(**body), "succeeded")

    assert (job["sample_rate"], job["channels"]) == (48_000, 1)
    made = service.http.post("/v1/audio/generations", json=body).content
    assert service.http.get(job["download_url"]).content == made


def test_requests_at_once_each_get_their_own_audio(service: Service) -> None:
    prompts = ["rain", "a bell", "wind", "thunder", "a siren", "drum loop 120 BPM"]
    bodies = [{"prompt": prompt, "duration": 1, "seed": 7} for prompt in prompts]

    def post(body: dict[str, object]) -> httpx.Response:
        return httpx.post(f"{service.base_url}/v1/audio/generations", json=body, timeout=120)

    with ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(post, bodies))
    alone = [post(body) for body in bodies]

    assert [r.status_code for r in together] == [200] * len(bodies)
    assert [r.content for r in together] == [r.content for r in alone]


def test_several_clips_come_in_a_zip(service: Service) -> None:
    response = service.generate(duration=0.5, seed=2**32 - 1, n=3, format="flac")

    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"].endswith('"stable-audio-3-small-sfx.zip"')
    assert response.headers["content-length"] == str(len(response.content))
    assert (response.headers["x-seed"], response.headers["x-model"]) == (
        str(2**32 - 1),
        "small-sfx",
    )
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        clips = [archive.read(file["name"]) for file in manifest["files"]]
    assert [file["seed"] for file in manifest["files"]] == [2**32 - 1, 0, 1]
    assert [file["sha256"] for file in manifest["files"]] == [
        hashlib.sha256(clip).hexdigest() for clip in clips
    ]
    assert clips[2] == service.generate(duration=0.5, seed=1, format="flac").content


def test_several_clips_come_in_parts_to_who_asks_for_them(service: Service) -> None:
    body = {"prompt": "rain", "duration": 0.5, "seed": 1, "n": 2}

    response = service.http.post("/generate", json=body, headers={"Accept": "multipart/mixed"})

    kind = response.headers["content-type"]
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + response.content)
    manifest, *clips = (part.get_payload(decode=True) for part in message.get_payload())  # type: ignore[union-attr]
    assert [file["seed"] for file in json.loads(manifest)["files"]] == [1, 2]
    assert clips[1] == service.generate(duration=0.5, seed=2).content


def test_one_clip_comes_alone_whatever_is_accepted(service: Service) -> None:
    body = {"prompt": "rain", "duration": 0.5, "n": 1}

    response = service.http.post("/generate", json=body, headers={"Accept": "multipart/mixed"})

    assert response.headers["content-type"] == "audio/wav"
