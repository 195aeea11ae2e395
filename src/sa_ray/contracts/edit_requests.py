"""What clients choose about an edit: audio that they have uploaded, and what is made of it."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from sa_ray.contracts.asked import Asked
from sa_ray.contracts.uploads import UPLOAD_ID_PATTERN

MAX_REGIONS: Final = 32

MIN_REGION: Final = 0.1
"""Shortest stretch that is made anew, seconds: about one step in time of the models."""

CROSSFADE: Final = 0.02
"""Seconds over which kept sound goes over into new sound. They lie within the new stretch."""

DEFAULT_NOISE_LEVEL: Final = 0.4
"""Of audio-to-audio: the input is still to be heard, and the prompt more."""

_UPLOAD_ID: Final = re.compile(UPLOAD_ID_PATTERN)


def _upload_id(text: str) -> str:
    if not _UPLOAD_ID.fullmatch(text):
        raise ValueError("must be the id of an upload: 64 hex digits, as POST /v1/uploads answers")
    return text


UploadId = Annotated[str, StringConstraints(max_length=64), AfterValidator(_upload_id)]


class RegionRequest(Asked):
    """A stretch of the clip that is made anew."""

    start: float = Field(ge=0, description="Seconds from the start of the clip.")
    end: float = Field(gt=0, description="Seconds from the start of the clip.")


class EditRequest(BaseModel):
    """The fields of an edit with their bounds, as far as these hold of each alone."""

    init_audio: UploadId | None = Field(
        default=None,
        description="Id of an upload that the whole clip is made from (audio-to-audio). At most "
        "one of `init_audio`, `inpaint_audio` and `continue_audio`.",
    )
    init_noise_level: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How far from `init_audio` the clip is: 0 leaves it as it is, 1 leaves nothing "
        f"of it. Null: {DEFAULT_NOISE_LEVEL}.",
    )
    inpaint_audio: UploadId | None = Field(
        default=None,
        description="Id of an upload of which `regions` are made anew; the rest stays as it is.",
    )
    regions: list[RegionRequest] = Field(
        default=[],
        max_length=MAX_REGIONS,
        description="Stretches of `inpaint_audio` to be made anew, in any order; those that touch "
        f"count as one. Each is {MIN_REGION:g} s or longer.",
    )
    continue_audio: UploadId | None = Field(
        default=None,
        description="Id of an upload that the clip goes on from. `duration` is the length of the "
        "whole.",
    )
    intro: float = Field(
        default=0.0,
        ge=0,
        description="Seconds of new sound before `continue_audio`.",
    )
    loop: bool = Field(
        default=False,
        description="The end of the clip goes over into its start, and a `wav` has loop points.",
    )
