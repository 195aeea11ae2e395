"""The route of vLLM-Omni, which has no SDK of its own."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.service import Service

ASKED = {"input": "rain", "audio_length": 0.5, "seed": 5, "num_inference_steps": 4}


def ask(service: Service, **changes: Any) -> httpx.Response:
    return service.http.post("/v1/audio/generate", json={**ASKED, **changes})


def test_the_clip_is_the_one_that_our_own_route_makes(service: Service) -> None:
    answer = ask(
        service, model="stabilityai/stable-audio-3-small-music", guidance_scale=2.0, speed=1.0,
        negative_prompt="wind", response_format="flac",
    )  # fmt: skip

    assert answer.status_code == 200, answer.text
    same = service.generate(
        model="small-music", duration=0.5, seed=5, steps=4, cfg_scale=2, negative_prompt="wind",
        format="flac",
    )  # fmt: skip
    assert answer.content == same.content
    assert answer.headers["x-model"] == "small-music"


def test_wav_is_the_default_and_pcm_what_it_holds(service: Service) -> None:
    wav, pcm = ask(service), ask(service, response_format="pcm")

    assert (wav.headers["content-type"], pcm.headers["content-type"]) == ("audio/wav", "audio/pcm")
    assert (pcm.headers["x-sample-rate"], pcm.headers["x-channels"]) == ("44100", "2")
    audio = wav.content[44 : 44 + len(pcm.content)]
    assert np.array_equal(np.frombuffer(pcm.content, "<i2"), np.frombuffer(audio, "<i2"))


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"audio_start": 3}, "audio_start"),
        ({"speed": 0.5}, "speed"),
        ({"model": "stable-audio-9"}, "model"),
        ({"audio_length": 1000}, "audio_length"),
        ({"guidance_scale": 50}, "guidance_scale"),
        ({"num_inference_steps": 1000}, "num_inference_steps"),
        ({"response_format": "aac"}, "response_format"),
        ({"input": 5}, "input"),
        ({"ref_audio": "x"}, "ref_audio"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(
    service: Service, changes: dict[str, Any], param: str
) -> None:
    answer = ask(service, **changes)

    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert error["param"] == param
