"""Audio in the form that asks for its edit, also by the routes of the old server's line."""

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile as sf

from tests.support.service import Service

RATE = 44_100

OLD = {"prompt": "rain", "format": "wav", "seed": "5", "steps": "8", "negative_prompt": ""}
"""As a browser sends it: texts, and blanks for what was not filled in."""


@pytest.fixture(scope="module")
def sound() -> bytes:
    """Two seconds of a quiet noise."""
    noise = np.random.default_rng(0).integers(-3000, 3000, (2 * RATE, 2)).astype(np.int16)
    file = io.BytesIO()
    sf.write(file, noise, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def samples(data: bytes) -> Any:
    return sf.read(io.BytesIO(data), dtype="int16")[0]


def post(service: Service, path: str, sound: bytes, name: str, **fields: str) -> httpx.Response:
    file = {name: ("sound.wav", sound, "audio/wav")}
    return service.http.post(path, data=fields, files=file)


@pytest.mark.parametrize("path", ["/v1/audio/generations", "/generate"])
def test_a_form_does_what_its_request_does_with_an_upload(
    service: Service, path: str, sound: bytes
) -> None:
    request = {"prompt": "rain", "seed": 5, "regions": [{"start": 0.5, "end": 1}]}

    answer = post(service, path, sound, "inpaint_audio", request=json.dumps(request))

    assert answer.status_code == 200, answer.text
    digest = hashlib.sha256(sound).hexdigest()
    assert service.http.get(f"/v1/uploads/{digest}").status_code == 200
    named = service.generate(**request, inpaint_audio=digest)
    assert answer.content == named.content
    kept = samples(answer.content)[: RATE // 2]
    np.testing.assert_array_equal(kept, samples(sound)[: RATE // 2])


def test_a_job_is_taken_with_its_file_and_once_for_each_key(service: Service, sound: bytes) -> None:
    form = {"request": json.dumps({"prompt": "rain", "seed": 5, "duration": 3})}
    file = {"continue_audio": ("sound.wav", sound, "audio/wav")}
    headers = {"Idempotency-Key": "continued"}

    first, again = (
        service.http.post("/jobs", data=form, files=file, headers=headers) for _ in range(2)
    )

    assert (first.status_code, again.status_code) == (202, 200), first.text + again.text
    assert again.json()["id"] == first.json()["id"]
    job = service.wait_for(first.json()["id"], "succeeded")
    assert job["audio_duration"] == 3
    made = samples(service.http.get(f"/jobs/{job['id']}/audio").content)
    np.testing.assert_array_equal(made[:RATE], samples(sound)[:RATE])


def test_the_old_lines_routes_answer_with_audio(service: Service, sound: bytes) -> None:
    varied = post(
        service, "/v1/audio/variations", sound, "audio", **OLD, init_noise_level="0.4",
        duration_padding_sec="6",
    )  # fmt: skip
    places = {"inpaint_start_seconds": "[0.2, 1.5]", "inpaint_end_seconds": "[0.4, 1.8]"}
    inpainted = post(service, "/v1/audio/inpaint", sound, "audio", **OLD, **places)
    one_place = {"inpaint_start_seconds": "0.5", "inpaint_end_seconds": "1"}
    in_one_place = post(service, "/v1/audio/inpaint", sound, "audio", **OLD, **one_place)

    for answer in (varied, inpainted, in_one_place):
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-seed"] == "5"
        assert samples(answer.content).shape == (2 * RATE, 2)
    kept = samples(sound)[RATE // 2 : RATE]
    assert not np.array_equal(samples(varied.content)[RATE // 2 : RATE], kept)
    np.testing.assert_array_equal(samples(inpainted.content)[RATE // 2 : RATE], kept)
    assert not np.array_equal(samples(in_one_place.content)[RATE // 2 : RATE], kept)


def test_the_old_lines_job_routes_take_jobs(service: Service, sound: bytes) -> None:
    places = {"inpaint_start_seconds": "0.5", "inpaint_end_seconds": "1"}

    for path, fields in (("/jobs/variations", {}), ("/jobs/inpaint", places)):
        accepted = post(service, path, sound, "audio", **OLD, **fields, priority="high")
        assert accepted.status_code == 202, accepted.text
        job = service.wait_for(accepted.json()["id"], "succeeded")
        assert (job["audio_duration"], job["priority"], job["seed"]) == (2, "high", 5)


@pytest.mark.parametrize(
    ("path", "name", "fields", "param"),
    [
        ("/v1/audio/generations", "init_audio", {}, "request"),
        ("/v1/audio/generations", "init_audio", {"request": "rain"}, "request"),
        ("/v1/audio/generations", "sound", {"request": '{"prompt": "rain"}'}, "sound"),
        ("/jobs", "init_audio", {"request": '{"prompt": "rain", "init_audio": "a"}'}, "init_audio"),
        ("/jobs", "init_audio", {"request": '{"prompt": "rain", "steps": 0}'}, "steps"),
        ("/v1/audio/generations", "init_audio", {"request": "[" * 50_000}, "request"),
        ("/v1/audio/variations", "file", OLD, "audio"),
        ("/v1/audio/variations", "audio", {**OLD, "batch_size": "9"}, "batch_size"),
        (
            "/v1/audio/inpaint",
            "audio",
            {**OLD, "inpaint_start_seconds": "[" * 50_000},
            "inpaint_start_seconds",
        ),
        (
            "/v1/audio/inpaint",
            "audio",
            {**OLD, "inpaint_start_seconds": "9" * 401},
            "inpaint_start_seconds",
        ),
        ("/v1/audio/variations", "audio", {**OLD, "steps": "many"}, "steps"),
        ("/v1/audio/variations", "audio", {**OLD, "loras": '[{"name": "rain"}]'}, "loras"),
        ("/jobs/variations", "audio", {**OLD, "loras": '[{"name": "."}]'}, "loras.0.name"),
        ("/v1/audio/variations", "audio", {**OLD, "loras": "rain"}, "loras"),
        ("/v1/audio/variations", "audio", {**OLD, "stepz": "8"}, "stepz"),
        ("/v1/audio/inpaint", "audio", OLD, "inpaint_start_seconds"),
        (
            "/jobs/inpaint",
            "audio",
            {**OLD, "inpaint_start_seconds": "[0, 1]", "inpaint_end_seconds": "1"},
            "inpaint_end_seconds",
        ),
    ],
)
def test_a_form_that_cannot_be_used_is_told_by_its_field(
    service: Service, sound: bytes, path: str, name: str, fields: dict[str, str], param: str
) -> None:
    answer = post(service, path, sound, name, **fields)

    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("charset", ["undefined", "unicode_escape", "latin-1"])
def test_a_form_in_another_charset_is_refused(service: Service, charset: str) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="\\ud800"\r\n\r\nrain\r\n--x--\r\n'
    kind = f"multipart/form-data; boundary=x; charset={charset}"

    for path in ("/v1/audio/variations", "/jobs", "/v1/uploads"):
        answer = service.http.post(path, content=form, headers={"Content-Type": kind})
        assert answer.status_code == 400, answer.text


def test_a_header_of_forms_says_nothing_where_there_is_no_body(service: Service) -> None:
    headers = {"Content-Type": "multipart/form-data"}

    assert service.http.get("/jobs", headers=headers).status_code == 200


def test_our_own_fields_are_taken_as_text_too(service: Service, sound: bytes) -> None:
    answer = post(
        service, "/v1/audio/variations", sound, "audio", **OLD, sample_rate="22050", channels="1",
        bit_depth="24",
    )  # fmt: skip

    assert answer.status_code == 200, answer.text
    made = sf.info(io.BytesIO(answer.content))
    assert (made.samplerate, made.channels, made.subtype) == (22_050, 1, "PCM_24")


def test_forms_that_are_worked_on_take_no_places_of_uploads(service: Service, sound: bytes) -> None:
    """They kept them through generation and answer; of one address there are eight."""
    long = {"prompt": "rain and thunder", "model": "small-music", "duration": 120, "steps": 50}
    form = {"request": json.dumps(long)}
    sounds = [sound + bytes([number]) * 4 for number in range(8)]

    def taken(data: bytes) -> bool:
        digest = hashlib.sha256(data).hexdigest()
        return service.http.get(f"/v1/uploads/{digest}").status_code == 200

    def upload() -> bool:
        headers = {"Content-Type": "audio/wav"}
        return service.http.post("/v1/uploads", content=sound, headers=headers).status_code == 201

    with ThreadPoolExecutor(len(sounds)) as threads:
        waits = [
            threads.submit(post, service, "/v1/audio/generations", data, "init_audio", **form)
            for data in sounds
        ]
        service.until(lambda: all(taken(data) for data in sounds))
        service.until(upload)
        answered = [wait for wait in waits if wait.done()]
        answers = [wait.result() for wait in waits]

    assert answered == []
    assert [answer.status_code for answer in answers] == [200] * len(sounds)


def test_what_is_no_form_is_told_where_it_belongs(service: Service) -> None:
    answer = service.http.post("/v1/audio/variations", json={"prompt": "rain"})

    assert answer.status_code == 422
    assert "multipart/form-data" in answer.json()["error"]["message"]


def test_a_file_that_is_no_audio_is_refused(service: Service) -> None:
    answer = post(service, "/v1/audio/variations", b"no audio" * 100, "audio", **OLD)

    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "audio"
