"""What a request for an edit comes to, and what is refused."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from sa_ray.contracts import CROSSFADE, GenerationRequest, ResolvedRequest, Source, StoredObject
from sa_ray.errors import InvalidRequestError
from sa_ray.serving.ingress.resolution import resolve
from sa_ray.settings import load_settings

ID = "ab" * 32

STORED = StoredObject(backend="local", key=f"uploads/{ID}.flac", size=1, sha256="cd" * 32)


def settled(seconds: float = 10.0, **fields: Any) -> ResolvedRequest:
    settings = load_settings({})
    source = Source(upload_id=ID, object=STORED, seconds=seconds)
    request = GenerationRequest.model_validate({"prompt": "rain", "seed": 1, **fields})
    return resolve(request, settings.models, settings.limits, "procedural", source=source)


def regions_of(request: ResolvedRequest) -> list[tuple[float, float]]:
    return [(region.start, region.end) for region in request.regions]


def test_a_clip_from_audio_is_as_long_as_that() -> None:
    resolved = settled(12.5, init_audio=ID)

    assert resolved.duration == 12.5
    assert resolved.init_noise_level == 0.4
    assert resolved.source == Source(upload_id=ID, object=STORED, seconds=12.5, at=0)
    assert resolved.regions == ()
    assert resolved.normalize == "limit"


def test_a_length_and_a_level_that_are_given_hold() -> None:
    resolved = settled(12.5, init_audio=ID, init_noise_level=0, duration=7.0)

    assert (resolved.duration, resolved.init_noise_level) == (7.0, 0)


def test_regions_come_in_order_and_those_that_touch_as_one() -> None:
    asked = [
        {"start": 5, "end": 6}, {"start": 1, "end": 2}, {"start": 1.5, "end": 3},
        {"start": 3, "end": 3.5}, {"start": 9, "end": 10.0004},
    ]  # fmt: skip

    resolved = settled(inpaint_audio=ID, regions=asked)

    assert regions_of(resolved) == [(1, 3.5), (5, 6), (9, 10)]
    assert resolved.duration == 10


def test_the_level_of_what_is_kept_is_not_changed_unless_that_is_asked_for() -> None:
    asked = {"inpaint_audio": ID, "regions": [{"start": 1, "end": 2}]}

    assert settled(**asked).normalize == "none"
    assert settled(**asked, normalize="limit").normalize == "limit"


def test_a_continuation_begins_within_the_sound() -> None:
    resolved = settled(4.0, continue_audio=ID, duration=10.0)

    assert resolved.duration == 10
    assert resolved.source is not None
    assert resolved.source.at == 0
    assert regions_of(resolved) == [(4 - CROSSFADE, 10)]


@pytest.mark.parametrize("duration", [6.0, 9.0])
def test_an_intro_lies_before_the_sound(duration: float) -> None:
    resolved = settled(4.0, continue_audio=ID, intro=2.0, duration=duration)

    assert resolved.source is not None
    assert resolved.source.at == 2
    after = [(6 - CROSSFADE, 9.0)] if duration > 6 else []
    assert regions_of(resolved) == [(0, 2 + CROSSFADE), *after]


def test_a_loop_is_made_of_a_prompt_or_of_audio() -> None:
    assert settled(loop=True).loop
    assert settled(init_audio=ID, loop=True).loop
    assert settled().source is None


REGION = [{"start": 1.0, "end": 2.0}]


@pytest.mark.parametrize(
    ("fields", "param", "hint"),
    [
        ({"init_audio": ID, "continue_audio": ID}, "continue_audio", "init_audio is given too"),
        ({"init_noise_level": 0.5}, "init_noise_level", "init_audio"),
        ({"init_noise_level": 0.0}, "init_noise_level", "init_audio"),
        ({"regions": REGION}, "regions", "inpaint_audio"),
        ({"init_audio": ID, "regions": REGION}, "regions", "inpaint_audio"),
        ({"intro": 1.0}, "intro", "continue_audio"),
        ({"inpaint_audio": ID}, "regions", "made anew"),
        ({"inpaint_audio": ID, "regions": []}, "regions", "made anew"),
        ({"inpaint_audio": ID, "regions": REGION, "duration": 11}, "duration", "continue_audio"),
        ({"inpaint_audio": ID, "regions": [*REGION, {"start": 9, "end": 10.5}]}, "regions.1.end",
         "ends at 10 s"),
        ({"inpaint_audio": ID, "regions": [*REGION, {"start": 0.5, "end": 0.55}]}, "regions.1",
         "0.1 s"),
        ({"inpaint_audio": ID, "regions": [{"start": 2, "end": 1}]}, "regions.0", "from 2 to 1 s"),
        ({"continue_audio": ID}, "duration", "together"),
        ({"continue_audio": ID, "duration": 9}, "duration", "10.100 or more"),
        ({"continue_audio": ID, "duration": 10.05}, "duration", "10.100 or more"),
        ({"continue_audio": ID, "duration": 10, "intro": 1}, "duration",
         "11.000, or 11.100 or more"),
        ({"continue_audio": ID, "duration": 10.05, "intro": 0.05}, "intro", "0.1 s"),
        ({"loop": True, "duration": 0.9}, "loop", "1 s at least"),
        ({"loop": True, "fade_out": 0.5}, "fade_out", "loop"),
        ({"loop": True, "continue_audio": ID, "duration": 12}, "loop", "init_audio"),
        ({"loop": True, "inpaint_audio": ID, "regions": REGION}, "loop", "init_audio"),
        ({"init_audio": ID, "fade_in": 11}, "fade_in", "10 s"),
    ],
)  # fmt: skip
def test_what_contradicts_is_refused_with_what_to_do(
    fields: dict[str, Any], param: str, hint: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        settled(**fields)

    assert refused.value.param == param
    assert refused.value.message.startswith(f"{param}: ")
    assert hint in refused.value.message


@pytest.mark.parametrize("intro", [0.0, 0.25])
@pytest.mark.parametrize("seconds", [10.00004, 3 + 1 / 44_100, 99.99999])
def test_the_lengths_that_a_refusal_tells_are_taken(seconds: float, intro: float) -> None:
    asked = {"continue_audio": ID, "intro": intro}
    with pytest.raises(InvalidRequestError) as refused:
        settled(seconds, **asked, duration=1.0)

    told = refused.value.message.partition("Ask for ")[2]
    lengths = [float(number) for number in re.findall(r"\d+\.\d+", told)]
    assert len(lengths) == (2 if intro else 1)
    for duration in lengths:
        assert settled(seconds, **asked, duration=duration).duration == duration


@pytest.mark.parametrize("field", ["init_audio", "inpaint_audio"])
def test_audio_that_is_longer_than_a_clip_may_be_is_refused(field: str) -> None:
    regions = {"regions": REGION} if field == "inpaint_audio" else {}

    with pytest.raises(InvalidRequestError) as refused:
        settled(121.0, **{field: ID}, **regions)

    assert refused.value.param == "duration"
    assert f"{field} is 121 s long" in refused.value.message
    assert "medium" in refused.value.message
    assert settled(121.0, **{field: ID}, **regions, duration=120).duration == 120


def test_audio_that_is_shorter_than_a_clip_may_be_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="at least") as refused:
        settled(0.001, init_audio=ID)

    assert refused.value.param == "init_audio"


@pytest.mark.parametrize(
    "fields",
    [
        {"init_audio": "../secret"},
        {"init_audio": "AB" * 32},
        {"init_audio": ID, "init_noise_level": 1.01},
        {"inpaint_audio": ID, "regions": REGION * 33},
        {"inpaint_audio": ID, "regions": [{"start": -1, "end": 2}]},
        {"inpaint_audio": ID, "regions": [{"start": 1, "end": float("inf")}]},
        {"inpaint_audio": ID, "regions": [{"start": 1, "end": 2, "more": 3}]},
        {"continue_audio": ID, "duration": 12, "intro": -1},
        {"loop": "yes"},
    ],
)
def test_fields_have_bounds_of_their_own(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settled(**fields)


def test_regions_full_of_unknown_fields_cost_no_more_than_a_few() -> None:
    regions = [{str(number): 1 for number in range(10_000)}] * 3

    with pytest.raises(ValidationError) as refused:
        settled(inpaint_audio=ID, regions=regions)

    assert refused.value.error_count() < 50
