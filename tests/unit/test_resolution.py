"""Settling a request: model, limits, seed."""

import pytest
from pydantic import ValidationError

from sa_ray.contracts import GenerationRequest, Lora
from sa_ray.errors import InvalidRequestError
from sa_ray.serving.ingress.resolution import draw_seed, resolve
from sa_ray.settings import Settings, load_settings


@pytest.fixture
def settings() -> Settings:
    return load_settings({"default_model": "small-music", "max_steps": 20, "max_duration": 380})


def test_what_is_absent_takes_its_default(settings: Settings) -> None:
    resolved = resolve(
        GenerationRequest(prompt=" rain "),
        settings.models,
        settings.limits,
        "procedural",
        draw=lambda: 42,
    )

    assert resolved.model == "small-music"
    assert resolved.prompt == "rain"
    assert resolved.duration == 7.0
    assert resolved.steps == 8
    assert resolved.cfg_scale == 1.0
    assert resolved.seed == 42
    assert resolved.format == "wav"


def test_steps_and_guidance_left_out_are_those_of_the_weights_served() -> None:
    base = {"repository": "stabilityai/stable-audio-3-medium-base", "revision": "0" * 40}
    settings = load_settings({"variants": {"medium": {**base, "steps": 50, "cfg_scale": 7.0}}})

    def resolved(**fields: object) -> tuple[int, float]:
        request = GenerationRequest.model_validate({"prompt": "x", **fields})
        made = resolve(request, settings.models, settings.limits, "procedural")
        return made.steps, made.cfg_scale

    assert resolved(model="medium") == (50, 7.0)
    assert resolved(model="medium", steps=8) == (8, 7.0)
    assert resolved(model="medium", cfg_scale=1.0) == (50, 1.0)
    assert resolved(model="small-sfx") == (8, 1.0)


def test_a_given_seed_is_kept(settings: Settings) -> None:
    for seed in (0, 7, 2**32 - 1):
        assert (
            resolve(
                GenerationRequest(prompt="x", seed=seed),
                settings.models,
                settings.limits,
                "procedural",
            ).seed
            == seed
        )


def test_drawn_seeds_span_the_32_bit_range() -> None:
    seeds = [draw_seed() for _ in range(1000)]

    assert min(seeds) < 2**28
    assert max(seeds) > 2**32 - 2**28
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("fields", "param", "hint"),
    [
        ({"format": "mp3", "bit_depth": 24}, "bit_depth", "bitrate"),
        ({"format": "flac", "bit_depth": 32}, "bit_depth", "16 or 24"),
        ({"bitrate": 128}, "bitrate", "wav has none"),
        ({"format": "mp3", "bitrate": 100}, "bitrate", "96, 112"),
        ({"format": "mp3", "bitrate": 320, "sample_rate": 22_050}, "bitrate", "144 or 160"),
        ({"format": "ogg", "bitrate": 320, "channels": 1}, "bitrate", "256"),
        ({"format": "ogg", "sample_rate": 44_100}, "sample_rate", "48000"),
        ({"loudness": -14.0}, "loudness", "normalize"),
        ({"normalize": "loudness", "duration": 0.3}, "normalize", "0.4"),
        ({"fade_in": 4.0, "fade_out": 4.0}, "fade_out", "8 s"),
        ({"fade_in": 8.0}, "fade_in", "8 s"),
    ],
)
def test_choices_about_the_file_that_exclude_each_other_are_refused(
    settings: Settings, fields: dict[str, object], param: str, hint: str
) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        resolve(
            GenerationRequest.model_validate({"prompt": "x", **fields}),
            settings.models,
            settings.limits,
            "procedural",
        )

    assert refusal.value.param == param
    assert hint in refusal.value.message


def test_fades_may_fill_the_clip(settings: Settings) -> None:
    request = GenerationRequest(prompt="x", duration=0.3, fade_in=0.1, fade_out=0.2)

    resolved = resolve(request, settings.models, settings.limits, "procedural")

    assert (resolved.fade_in, resolved.fade_out) == (0.1, 0.2)


@pytest.mark.parametrize("field", ["channels", "bit_depth", "sample_rate", "bitrate"])
def test_a_truth_value_is_no_number(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        GenerationRequest.model_validate({"prompt": "x", "format": "mp3", field: True})


@pytest.mark.parametrize(
    ("fields", "param", "hint"),
    [
        ({"duration": 121.0}, "duration", "medium"),
        ({"duration": 381.0, "model": "medium"}, "duration", "380"),
        ({"steps": 21}, "steps", "20"),
        ({"model": "x" * 5000}, "model", "small-sfx"),
    ],
)
def test_limits_are_named(
    settings: Settings, fields: dict[str, object], param: str, hint: str
) -> None:
    request = GenerationRequest.model_validate({"prompt": "x", **fields})

    with pytest.raises(InvalidRequestError, match=hint) as caught:
        resolve(request, settings.models, settings.limits, "procedural")

    assert caught.value.param == param
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(("field", "value"), [("sampler", "euler"), ("apg_scale", 0.0)])
def test_what_only_the_model_has_is_refused_where_the_procedural_engine_answers(
    settings: Settings, field: str, value: object
) -> None:
    request = GenerationRequest.model_validate({"prompt": "x", field: value})

    with pytest.raises(InvalidRequestError, match="Leave it out") as caught:
        resolve(request, settings.models, settings.limits, "procedural")

    assert caught.value.param == field
    assert (
        getattr(resolve(request, settings.models, settings.limits, "stable-audio-3"), field)
        == value
    )


def test_adapters_are_refused_where_the_procedural_engine_answers(settings: Settings) -> None:
    named = GenerationRequest.model_validate({"prompt": "x", "loras": [{"name": "rain"}]})
    none = GenerationRequest.model_validate({"prompt": "x", "loras": []})

    with pytest.raises(InvalidRequestError, match="loras is a choice of Stable Audio 3") as caught:
        resolve(named, settings.models, settings.limits, "procedural")

    assert caught.value.param == "loras"
    assert resolve(none, settings.models, settings.limits, "procedural").loras == ()


def test_adapters_are_those_that_were_found(settings: Settings) -> None:
    request = GenerationRequest.model_validate({"prompt": "x", "loras": [{"name": "rain"}]})
    rain = Lora(name="rain", strength=1.0, sha256="ab" * 32)

    resolved = resolve(request, settings.models, settings.limits, "stable-audio-3", loras=(rain,))

    assert resolved.loras == (rain,)


def test_no_longer_model_is_offered_where_none_is_longer(settings: Settings) -> None:
    request = GenerationRequest(prompt="x", model="medium", duration=400)

    with pytest.raises(InvalidRequestError) as caught:
        resolve(request, settings.models, settings.limits, "procedural")

    assert "another model" not in caught.value.message
