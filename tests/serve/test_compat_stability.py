"""Stability's REST routes, by forms as its clients send them."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile as sf

from tests.support.service import SLOW, Service

RATE = 44_100
NOTHING = {"none": ("none", b"")}
"""What clients send with a form that has no file."""

ASKED = {"prompt": "rain", "duration": "0.5", "seed": "5", "output_format": "wav"}


@pytest.fixture(scope="module")
def noise() -> bytes:
    """Two seconds of it."""
    made = np.random.default_rng(0).integers(-3000, 3000, (2 * RATE, 2)).astype(np.int16)
    file = io.BytesIO()
    sf.write(file, made, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def post(service: Service, path: str, audio: bytes | None = None, **fields: str) -> httpx.Response:
    files: Any = NOTHING if audio is None else {"audio": ("sound.wav", audio, "audio/wav")}
    accept = {"Accept": fields.pop("accept", "audio/*")}
    return service.http.post(f"/v2beta/audio/{path}", data=fields, files=files, headers=accept)


def samples(data: bytes) -> Any:
    return sf.read(io.BytesIO(data), dtype="int16")[0]


def finished(service: Service, result_id: str) -> httpx.Response:
    answers: list[httpx.Response] = []

    def has_ended() -> bool:
        answers.append(service.http.get(f"/v2beta/audio/results/{result_id}"))
        return answers[-1].status_code != 202

    service.until(has_ended)
    if len(answers) > 1:
        assert answers[0].json() == {"id": result_id, "status": "in-progress"}
        assert answers[0].headers["retry-after"] == "1"
    return answers[-1]


def test_a_clip_is_the_one_that_our_own_route_makes(service: Service) -> None:
    answer = post(service, "stable-audio-2/text-to-audio", **ASKED, model="stable-audio-2.5")

    assert answer.status_code == 200, answer.text
    assert (answer.headers["seed"], answer.headers["finish-reason"]) == ("5", "SUCCESS")
    assert answer.content == service.generate(model="medium", duration=0.5, seed=5).content


def test_json_holds_it_in_base64(service: Service) -> None:
    path = "stable-audio-2/text-to-audio"
    answer = post(service, path, **ASKED, accept="application/json")

    told = answer.json()
    assert (told["seed"], told["finish_reason"]) == (5, "SUCCESS")
    assert base64.b64decode(told["audio"]) == post(service, path, **ASKED).content


def test_seed_0_draws_one(service: Service) -> None:
    seeds = {
        post(service, "stable-audio-2/text-to-audio", **{**ASKED, "seed": "0"}).headers["seed"]
        for _ in range(2)
    }

    assert len(seeds) == 2


def test_audio_is_made_from_audio(service: Service, noise: bytes) -> None:
    edit = {"prompt": "rain", "output_format": "wav", "seed": "5"}

    varied = post(service, "stable-audio-2/audio-to-audio", noise, **edit, strength="0.5")
    masked = post(service, "stable-audio-2/inpaint", noise, **edit, mask_start="0.5", mask_end="1")

    for answer in (varied, masked):
        assert answer.status_code == 200, answer.text
        assert samples(answer.content).shape == (2 * RATE, 2)
    kept = samples(noise)[: RATE // 2]
    assert not np.array_equal(samples(varied.content)[: RATE // 2], kept)
    np.testing.assert_array_equal(samples(masked.content)[: RATE // 2], kept)


def test_a_job_is_polled_for_its_result(service: Service, noise: bytes) -> None:
    fields = {**ASKED, "model": "stable-audio-3"}
    accepted = post(service, "stable-audio/text-to-audio", **fields)
    edit = {"prompt": "rain", "strength": "0.5", "model": "small-sfx"}
    edited = post(service, "stable-audio/audio-to-audio", noise, **edit)

    assert (accepted.status_code, edited.status_code) == (202, 202), accepted.text + edited.text
    result_id = accepted.json()["id"]
    assert len(result_id) == 64
    made = finished(service, result_id)
    assert made.status_code == 200, made.text
    assert (made.headers["seed"], made.headers["finish-reason"]) == ("5", "SUCCESS")
    assert made.content == service.generate(model="medium", duration=0.5, seed=5).content
    in_json = service.http.get(
        f"/v2beta/audio/results/{result_id}", headers={"Accept": "application/json"}
    )
    assert base64.b64decode(in_json.json()["audio"]) == made.content
    varied = finished(service, edited.json()["id"])
    assert varied.headers["content-type"] == "audio/mpeg"
    assert sf.info(io.BytesIO(varied.content)).frames == 2 * RATE


def test_a_cancelled_job_has_no_result(service: Service) -> None:
    long = {name: str(value) for name, value in SLOW.items()}
    result_id = post(service, "stable-audio/text-to-audio", **long).json()["id"]
    service.http.delete(f"/jobs/{result_id[:32]}")
    service.wait_for(result_id[:32], "cancelled")

    answer = service.http.get(f"/v2beta/audio/results/{result_id}")
    assert answer.status_code == 410
    assert answer.json()["errors"] == ["The generation was cancelled."]


@pytest.mark.parametrize("version", ["stable-audio", "stable-audio-2"])
@pytest.mark.parametrize(
    ("mode", "fields", "said"),
    [
        ("text-to-audio", {"prompt": ""}, "prompt: "),
        ("text-to-audio", {"duration": "500"}, "380"),
        ("text-to-audio", {"steps": "100"}, "STABLE_AUDIO_MAX_STEPS"),
        ("text-to-audio", {"cfg_scale": "25"}, "cfg_scale: "),
        ("text-to-audio", {"output_format": "ogg"}, "output_format: "),
        ("text-to-audio", {"seed": "many"}, "seed: "),
        ("text-to-audio", {"strength": "0.5"}, "audio-to-audio"),
        ("text-to-audio", {"model": "stable-audio-9"}, "small-sfx"),
        ("text-to-audio", {"stepz": "8"}, "did you mean steps"),
        ("audio-to-audio", {}, "audio is missing"),
        ("inpaint", {"mask_start": "1"}, "mask_end: "),
        ("text-to-speech", {}, "text-to-audio"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(
    service: Service, version: str, mode: str, fields: dict[str, str], said: str
) -> None:
    answer = post(service, f"{version}/{mode}", **{**ASKED, **fields})

    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert (set(told), told["name"]) == ({"id", "name", "errors"}, "bad_request")
    assert said in told["errors"][0]


def test_masks_outside_the_audio_are_told_by_their_names(service: Service, noise: bytes) -> None:
    mask = {"prompt": "rain", "mask_start": "1", "mask_end": "5"}
    answer = post(service, "stable-audio-2/inpaint", noise, **mask)

    assert answer.status_code == 400
    assert answer.json()["errors"][0].startswith("mask_end ")


@pytest.mark.parametrize("result_id", ["0" * 64, "a", "", "0" * 63 + "1"])
def test_an_unknown_result_is_404(service: Service, result_id: str) -> None:
    answer = service.http.get(f"/v2beta/audio/results/{result_id}")

    assert answer.status_code == 404
    assert set(answer.json()) == {"id", "name", "errors"}


def test_a_body_that_is_no_form_is_refused(service: Service) -> None:
    answer = service.http.post("/v2beta/audio/stable-audio/text-to-audio", json=ASKED)

    assert answer.status_code == 400
    assert "multipart/form-data" in answer.json()["errors"][0]
