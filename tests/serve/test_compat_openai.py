"""OpenAI's own SDK against the service."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import soundfile as sf

from tests.support.service import Service

SHORT = {"duration": 0.5, "seed": 5}


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[openai.OpenAI]:
    base_url = f"{service.base_url}/v1"
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


def speech(client: openai.OpenAI, **changes: Any) -> Any:
    asked = {"model": "tts-1", "voice": "alloy", "input": "rain", "extra_body": SHORT, **changes}
    return client.audio.speech.with_raw_response.create(**asked)


@pytest.mark.parametrize(
    ("asked", "ours", "media_type"),
    [
        ("mp3", "mp3", "audio/mpeg"),
        ("flac", "flac", "audio/flac"),
        ("wav", "wav", "audio/wav"),
        ("opus", "ogg", "audio/ogg"),
    ],
)
def test_a_file_is_the_one_that_our_own_route_makes(
    client: openai.OpenAI, service: Service, asked: str, ours: str, media_type: str
) -> None:
    answer = speech(client, response_format=asked)

    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-ignored"] == "voice"
    assert (answer.headers["x-seed"], answer.headers["x-model"]) == ("5", "small-sfx")
    same = service.generate(**SHORT, format=ours)
    made, expected = (sf.read(io.BytesIO(data))[0] for data in (answer.content, same.content))
    np.testing.assert_array_equal(made, expected)


def test_pcm_is_mono_at_24_khz(client: openai.OpenAI, service: Service) -> None:
    answer = speech(client, response_format="pcm")

    assert answer.headers["content-type"] == "audio/pcm"
    assert answer.headers["x-sample-rate"] == "24000"
    made = np.frombuffer(answer.content, "<i2")
    assert len(made) == 12_000
    wav = service.generate(**SHORT, channels=1)
    loudness = [
        np.sqrt(np.mean(one**2)) for one in (made / 32768, sf.read(io.BytesIO(wav.content))[0])
    ]
    assert loudness[0] == pytest.approx(loudness[1], rel=0.5)


def test_the_body_can_be_taken_piece_by_piece(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="small-music", voice="alloy", input="a drum loop", response_format="wav",
        extra_body={"duration": 2, "steps": 1, "negative_prompt": "rain"},
    ) as answer:  # fmt: skip
        pieces = list(answer.iter_bytes(4096))

    assert len(pieces) > 2
    assert sf.info(io.BytesIO(b"".join(pieces))).duration == 2
    assert answer.headers["x-model"] == "small-music"


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"instructions": "whisper"}, "instructions", "input"),
        ({"speed": 2}, "speed", "duration"),
        ({"stream_format": "sse"}, "stream_format", "audio"),
        ({"response_format": "aac"}, "response_format", "'opus'"),
        ({"model": "gpt-5"}, "model", "small-sfx, small-music, medium, tts-1"),
        ({"input": ""}, "input", "at least 1"),
        ({"extra_body": {"duration": 500}}, "duration", "120"),
        ({"extra_body": {"stepz": 5}}, "stepz", "did you mean steps"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(
    client: openai.OpenAI, changes: dict[str, Any], param: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        speech(client, **changes)

    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"
    assert raised.value.code == "invalid_request"
    assert said in raised.value.message


def test_errors_of_the_guard_have_the_same_shape(service: Service) -> None:
    answers = [
        service.http.post("/v1/audio/speech", content="{}", headers={"Content-Type": "text/plain"}),
        service.http.post("/v1/audio/speech", json={}, headers={"Origin": "https://else.test"}),
        service.http.get("/v1/audio/speech"),
    ]

    assert [answer.status_code for answer in answers] == [415, 403, 405]
    for answer in answers:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
