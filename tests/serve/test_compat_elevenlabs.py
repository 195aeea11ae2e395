"""ElevenLabs' own SDK against the service."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile as sf
from elevenlabs import ElevenLabs
from elevenlabs.core import ApiError
from elevenlabs.errors import UnprocessableEntityError

from tests.support.service import Service

RATE = 44_100
EXTRA: Any = {"additional_body_parameters": {"seed": 5}}


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[ElevenLabs]:
    with httpx.Client(timeout=120) as http:
        yield ElevenLabs(base_url=service.base_url, api_key="none", httpx_client=http)


def sound(client: ElevenLabs, **changes: Any) -> bytes:
    asked = {"text": "rain", "duration_seconds": 1, "request_options": EXTRA, **changes}
    return b"".join(client.text_to_sound_effects.convert(**asked))


def samples(data: bytes) -> Any:
    return sf.read(io.BytesIO(data), dtype="int16")


def test_a_sound_is_the_one_that_our_own_route_makes(client: ElevenLabs, service: Service) -> None:
    made = sound(client)

    same = service.generate(
        model="small-sfx", duration=1, seed=5, format="mp3", sample_rate=RATE, bitrate=128
    )
    assert made == same.content


@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_pcm_is_what_a_wav_holds(client: ElevenLabs, service: Service, rate: int) -> None:
    made = sound(client, output_format=f"pcm_{rate}")

    wav = service.generate(model="small-sfx", duration=1, seed=5, sample_rate=rate)
    expected = samples(wav.content)[0]
    np.testing.assert_array_equal(np.frombuffer(made, "<i2").reshape(-1, 2), expected)


@pytest.mark.parametrize(
    ("name", "subtype", "rate", "channels"),
    [
        ("ulaw_8000", "ULAW", 8_000, 1),
        ("alaw_8000", "ALAW", 8_000, 1),
        ("pcm_16000", "PCM_16", 16_000, 2),
    ],
)
def test_rates_that_no_file_has_come_by_resampling(
    client: ElevenLabs, service: Service, name: str, subtype: str, rate: int, channels: int
) -> None:
    data = sound(client, output_format=name)

    made, _ = sf.read(
        io.BytesIO(data), samplerate=rate, channels=channels, format="RAW", subtype=subtype,
        always_2d=True,
    )  # fmt: skip
    assert made.shape == (rate, channels)
    assert 0.001 < np.sqrt(np.mean(made**2)) < 0.9


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("mp3_22050_32", {"format": "mp3", "sample_rate": 22_050, "bitrate": 32}),
        ("wav_48000", {"format": "wav", "sample_rate": 48_000}),
    ],
)
def test_each_name_of_a_format_is_one_of_ours(
    client: ElevenLabs, service: Service, name: str, ours: dict[str, Any]
) -> None:
    same = service.generate(model="small-sfx", duration=1, seed=5, **ours)

    assert sound(client, output_format=name) == same.content


def test_a_loop_opus_and_the_model_are_honoured(client: ElevenLabs) -> None:
    with client.text_to_sound_effects.with_raw_response.convert(
        text="rain", loop=True, duration_seconds=1.5, output_format="opus_48000_64",
        model_id="eleven_text_to_sound_v2", prompt_influence=0.3,
    ) as answer:  # fmt: skip
        data = b"".join(answer.data)

    assert answer.headers["x-model"] == "small-sfx"
    assert 0 <= int(answer.headers["x-seed"]) < 2**32
    assert sf.info(io.BytesIO(data)).format == "OGG"


def test_music_is_made_and_streamed(client: ElevenLabs, service: Service) -> None:
    asked: dict[str, Any] = {"prompt": "slow piano", "music_length_ms": 3000, "seed": 7}

    whole = b"".join(client.music.compose(**asked, force_instrumental=True, output_format="auto"))
    pieces = list(client.music.stream(**asked))

    assert len(pieces) > 1
    assert whole == b"".join(pieces)
    same = service.generate(
        model="small-music", prompt="slow piano", duration=3, seed=7, format="mp3",
        sample_rate=RATE, bitrate=128,
    )  # fmt: skip
    assert whole == same.content


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"duration_seconds": 500}, "duration_seconds", "120"),
        ({"duration_seconds": 0.5, "loop": True}, "loop", "1 s"),
        ({"prompt_influence": 0.9}, "prompt_influence", "leave it out"),
        ({"model_id": "eleven_v9"}, "model_id", "eleven_text_to_sound_v2"),
        ({"output_format": "mp3_24000_48"}, "output_format", "mp3_44100_128"),
        ({"enable_logging": False}, "enable_logging", "Leave it out"),
        ({"text": ""}, "text", "at least 1"),
    ],
)
def test_sounds_that_cannot_be_had_are_refused_by_name(
    client: ElevenLabs, changes: dict[str, Any], param: str, said: str
) -> None:
    with pytest.raises(UnprocessableEntityError) as raised:
        sound(client, **changes)

    detail = raised.value.body["detail"]
    assert (detail["status"], detail["param"]) == ("invalid_request", param)
    assert said in detail["message"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": None, "composition_plan": {"sections": []}}, "composition_plan"),
        ({"prompt": None}, "prompt"),
        ({"finetune_id": "mine"}, "finetune_id"),
        ({"store_for_inpainting": True}, "store_for_inpainting"),
        ({"sign_with_c_2_pa": True}, "sign_with_c2pa"),
        ({"music_length_ms": 600_000}, "music_length_ms"),
        ({"seed": -7}, "seed"),
    ],
)
def test_music_that_cannot_be_had_is_refused_by_name(
    client: ElevenLabs, changes: dict[str, Any], param: str
) -> None:
    asked: dict[str, Any] = {"prompt": "slow piano", "music_length_ms": 3000, **changes}

    with pytest.raises(UnprocessableEntityError) as raised:
        list(client.music.compose(**asked))

    assert raised.value.body["detail"]["param"] == param


def test_other_errors_have_their_shape_too(client: ElevenLabs, service: Service) -> None:
    with pytest.raises(ApiError) as raised:
        list(client.music.compose_detailed(prompt="slow piano"))
    assert raised.value.status_code == 404
    assert raised.value.body["detail"]["status"] == "not_found"

    foreign = service.http.post(
        "/v1/sound-generation", json={"text": "rain"}, headers={"Origin": "https://else.test"}
    )
    assert foreign.status_code == 403
    assert foreign.json()["detail"]["status"] == "foreign_origin"
