"""What a file says made it, and that the same request can be read from it."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from sa_ray import audio
from sa_ray.contracts import (
    AudioFormat,
    GenerationRequest,
    Lora,
    ResolvedRequest,
    Source,
    StoredObject,
)
from sa_ray.errors import InvalidRequestError
from sa_ray.serving.ingress.resolution import resolve
from sa_ray.settings import load_settings

SAMPLES = np.zeros((2, 4410), np.float32)


def resolved(source: Source | None = None, **fields: Any) -> ResolvedRequest:
    settings = load_settings({})
    request = GenerationRequest.model_validate({"prompt": "rain", "duration": 0.1, **fields})
    return resolve(request, settings.models, settings.limits, "stable-audio-3", lambda: 5, source)


def written(folder: Path, request: ResolvedRequest, fmt: AudioFormat = "wav") -> Path:
    tags = audio.provenance_tags(request, "stable-audio-3", request.seed)
    file = folder / f"clip.{fmt}"
    file.write_bytes(audio.encode(SAMPLES, 44_100, fmt, tags=tags))
    return file


@pytest.mark.parametrize("fmt", get_args(AudioFormat))
def test_a_file_holds_the_request_that_makes_it_again(tmp_path: Path, fmt: AudioFormat) -> None:
    request = resolved(
        model="small-music", prompt='Möwen 雨 🌧 "x" request= \\', negative_prompt="\ufffe",
        seed=4_294_967_295, cfg_scale=3.5, sampler="euler", channels=1, fade_in=0.05, format=fmt,
    )  # fmt: skip

    found = audio.provenance_of(written(tmp_path, request, fmt))

    assert found.engine == "stable-audio-3"
    settings = load_settings({})
    again = resolve(found.request, settings.models, settings.limits, "stable-audio-3")
    assert again == request


UPLOAD = "ab" * 32


@pytest.mark.parametrize(
    "edit",
    [
        {"init_audio": UPLOAD, "init_noise_level": 0.0},
        {"init_audio": UPLOAD, "duration": 12.0, "loop": True},
        {"inpaint_audio": UPLOAD, "duration": 10.0,
         "regions": [{"start": 1.1, "end": 2.2}, {"start": 8.0, "end": 10.0}]},
        {"inpaint_audio": UPLOAD, "regions": [{"start": 0.0, "end": 2.2}], "normalize": "limit",
         "duration": 5.0},
        {"continue_audio": UPLOAD, "duration": 10.1},
        {"continue_audio": UPLOAD, "duration": 10.3, "intro": 0.3},
        {"continue_audio": UPLOAD, "duration": 20.0, "intro": 0.3, "normalize": "peak"},
        {"loop": True, "duration": 3.0},
    ],
)  # fmt: skip
def test_the_file_of_an_edit_names_its_upload_and_all_choices(
    tmp_path: Path, edit: dict[str, Any]
) -> None:
    stored = StoredObject(backend="local", key="x", size=1, sha256="cd" * 32)
    source = Source(upload_id=UPLOAD, object=stored, seconds=10.0)
    request = resolved(source, **edit)

    found = audio.provenance_of(written(tmp_path, request)).request

    assert resolved(source, **found.model_dump(exclude_unset=True)) == request


@pytest.mark.parametrize("fmt", get_args(AudioFormat))
def test_a_file_names_its_adapters_and_their_digests(tmp_path: Path, fmt: AudioFormat) -> None:
    loras = tuple(
        Lora(name=name, strength=strength, sha256=digest * 32)
        for name, strength, digest in (("a.b-c_d", -0.5, "ab"), ("rain", 1.0, "cd"))
    )
    request = resolved(seed=1, format=fmt).model_copy(update={"loras": loras})

    found = audio.provenance_of(written(tmp_path, request, fmt))

    assert found.adapters == {"a.b-c_d": "ab" * 32, "rain": "cd" * 32}
    asked = [(one.name, one.strength) for one in found.request.loras]
    assert asked == [("a.b-c_d", -0.5), ("rain", 1.0)]


def test_a_prompt_too_long_for_the_tags_is_told(tmp_path: Path) -> None:
    for prompt in ("r" * 1500, "雨" * 500):
        fits = written(tmp_path, resolved(prompt=prompt, seed=1))
        assert audio.provenance_of(fits).request.prompt == prompt

    too_long = written(tmp_path, resolved(prompt="r" * 2000, seed=1))
    with pytest.raises(InvalidRequestError, match="too long"):
        audio.provenance_of(too_long)


def test_the_file_of_another_is_told(tmp_path: Path) -> None:
    foreign, text, raw = (tmp_path / name for name in ("foreign.wav", "text.wav", "text.raw"))
    foreign.write_bytes(audio.encode(SAMPLES, 44_100, "wav", tags={"comment": "request={}"}))
    text.write_text("rain")
    raw.write_text("rain")

    with pytest.raises(InvalidRequestError, match="does not say"):
        audio.provenance_of(foreign)
    for unreadable in (text, raw):
        with pytest.raises(InvalidRequestError, match="not an audio file"):
            audio.provenance_of(unreadable)


@pytest.mark.parametrize("request_text", ["{", "[]", '{"prompt": "x", "duration": -1}'])
def test_a_request_that_is_none_is_told(tmp_path: Path, request_text: str) -> None:
    file = tmp_path / "clip.wav"
    tags = {"comment": f"engine=procedural seed=1 request={request_text}"}
    file.write_bytes(audio.encode(SAMPLES, 44_100, "wav", tags=tags))

    with pytest.raises(InvalidRequestError, match="none of this release"):
        audio.provenance_of(file)
