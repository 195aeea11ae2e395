"""What a client's edit comes to: where its audio lies in the clip, and what is made anew."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from sa_ray.contracts import (
    CROSSFADE,
    DEFAULT_NOISE_LEVEL,
    MIN_DURATION,
    MIN_REGION,
    EditFields,
    GenerationRequest,
    Region,
    Source,
)
from sa_ray.errors import InvalidRequestError

SourceField = Literal["init_audio", "inpaint_audio", "continue_audio"]

SOURCE_FIELDS: Final[tuple[SourceField, ...]] = ("init_audio", "inpaint_audio", "continue_audio")

MIN_LOOP: Final = 1.0
"""Shortest loop, seconds: its seam needs sound on both sides to go over into."""

_ROUNDING_S: Final = 1e-3
"""Clients round lengths."""

_TINY: Final = 1e-9
"""In floating point, 1.1 - 1.0 is less than 0.1."""


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit with every choice made. ``duration``: seconds of the clip."""

    duration: float
    fields: EditFields


def source_field(request: GenerationRequest) -> SourceField | None:
    """Return the field that names an upload; None: the prompt alone.

    Raises ``InvalidRequestError`` for choices that contradict each other.
    """
    named = [name for name in SOURCE_FIELDS if getattr(request, name) is not None]
    if len(named) > 1:
        raise _invalid(named[1], f"{named[0]} is given too, and one is the most. Leave one out.")
    field = named[0] if named else None
    for name, of in (
        ("init_noise_level", "init_audio"),
        ("regions", "inpaint_audio"),
        ("intro", "continue_audio"),
    ):
        default = GenerationRequest.model_fields[name].default
        if getattr(request, name) != default and field != of:
            raise _invalid(name, f"it goes with {of}. Leave it out, or name an upload there.")
    if field == "inpaint_audio" and not request.regions:
        raise _invalid(
            "regions", 'say what is to be made anew, as in [{"start": 1.0, "end": 2.5}] (seconds).'
        )
    if field == "continue_audio" and "duration" not in request.model_fields_set:
        raise _invalid("duration", "say how long continue_audio and what is added are together.")
    _require_possible_loop(request, field)
    return field


def edit_of(request: GenerationRequest, source: Source | None) -> Edit:
    """Return what ``request`` makes of ``source``, the upload that it names.

    Raises ``InvalidRequestError`` for choices that do not fit it, or each other.
    """
    field = source_field(request)
    if field is None or source is None:
        edit = Edit(request.duration, EditFields(loop=request.loop))
    elif field == "init_audio":
        edit = _whole(request, source)
    elif field == "inpaint_audio":
        edit = _inpainting(request, source)
    else:
        edit = _continuation(request, source)
    if request.loop and edit.duration < MIN_LOOP:
        raise _invalid("loop", f"it is {MIN_LOOP:g} s at least. Ask for a longer duration.")
    return edit


def length_told(request: GenerationRequest, duration: float) -> str:
    """Return what the length of the clip is, and where it is from, as the start of a sentence."""
    if "duration" in request.model_fields_set or duration == request.duration:
        return f"duration is {duration:g} s"
    return f"{source_field(request)} is {duration:g} s long, and so would the clip be"


def _require_possible_loop(request: GenerationRequest, field: SourceField | None) -> None:
    if not request.loop:
        return
    if field in ("inpaint_audio", "continue_audio"):
        raise _invalid(
            "loop",
            f"it makes both ends anew, which {field} would keep. Leave it out, or use init_audio.",
        )
    for name in ("fade_in", "fade_out"):
        if getattr(request, name):
            raise _invalid(name, "a loop has no silent end. Leave it out, or loop.")


def _whole(request: GenerationRequest, source: Source) -> Edit:
    level = request.init_noise_level
    return Edit(
        _duration(request, source, "init_audio"),
        EditFields(
            source=source,
            init_noise_level=DEFAULT_NOISE_LEVEL if level is None else level,
            loop=request.loop,
        ),
    )


def _inpainting(request: GenerationRequest, source: Source) -> Edit:
    duration = _duration(request, source, "inpaint_audio")
    if duration > source.seconds + _ROUNDING_S:
        raise _invalid(
            "duration",
            f"inpaint_audio is {source.seconds:g} s long, and the clip cannot be longer. Leave it "
            "out, or use continue_audio.",
        )
    return Edit(duration, EditFields(source=source, regions=_regions(request, duration)))


def _regions(request: GenerationRequest, duration: float) -> tuple[Region, ...]:
    """Return the regions of ``request`` in order, those that touch joined."""
    found: list[Region] = []
    asked = enumerate(request.regions)
    for place, one in sorted(asked, key=lambda numbered: numbered[1].start):
        name = f"regions.{place}"
        if one.end > duration + _ROUNDING_S:
            raise _invalid(
                f"{name}.end", f"it is {one.end:g} s, but the clip ends at {duration:g} s."
            )
        end = min(one.end, duration)
        if end - one.start < MIN_REGION - _TINY and (one.start > 0 or end < duration):
            raise _invalid(
                name,
                f"it goes from {one.start:g} to {one.end:g} s, but has to be {MIN_REGION:g} s long "
                "or more.",
            )
        if found and one.start <= found[-1].end:
            found[-1] = Region(start=found[-1].start, end=max(found[-1].end, end))
        else:
            found.append(Region(start=one.start, end=end))
    return tuple(found)


def _continuation(request: GenerationRequest, source: Source) -> Edit:
    source = source.model_copy(update={"at": request.intro})
    _require_room(request, source)
    before, end = request.intro, request.intro + source.seconds
    after = request.duration - end
    # The joins lie within the source, so that there is sound to go over from.
    overlap = min(CROSSFADE, source.seconds / 4)
    regions = [Region(start=0.0, end=before + overlap)] if before else []
    if after >= MIN_REGION - _TINY:
        regions.append(Region(start=end - overlap, end=request.duration))
    return Edit(request.duration, EditFields(source=source, regions=tuple(regions)))


def _require_room(request: GenerationRequest, source: Source) -> None:
    """Raise unless the intro and what follows the source are both new sound, or nothing."""
    end = request.intro + source.seconds
    after = request.duration - end
    if 0 < request.intro < MIN_REGION:
        raise _invalid("intro", f"it is {MIN_REGION:g} s at least. Leave it out, or lengthen it.")
    if after >= MIN_REGION - _TINY or (request.intro and abs(after) <= _ROUNDING_S):
        return
    exactly = f"{end:.3f}, or " if request.intro else ""
    # In whole milliseconds, and never too few.
    least = math.ceil((end + MIN_REGION - _TINY) * 1000) / 1000
    raise _invalid(
        "duration",
        f"it is {request.duration:g} s for the whole, of which the intro and continue_audio take "
        f"{end:g}. Ask for {exactly}{least:.3f} or more.",
    )


def _duration(request: GenerationRequest, source: Source, field: SourceField) -> float:
    if "duration" in request.model_fields_set:
        return request.duration
    if source.seconds < MIN_DURATION:
        raise _invalid(
            field, f"it is {source.seconds:g} s long, but a clip is {MIN_DURATION:g} s at least."
        )
    return source.seconds


def _invalid(field: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {reason}", param=field)
