"""Forms of Stability's clients, which all their requests are."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from fastapi import Request
from pydantic import Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from sa_ray.contracts import VariantName
from sa_ray.contracts.asked import Asked as Body
from sa_ray.errors import InvalidRequestError
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.compat.answering import Asked, Output
from sa_ray.serving.ingress.compat.formats import variant_named
from sa_ray.serving.ingress.errors import describe_unfit
from sa_ray.serving.ingress.forms import opened_form, take_file
from sa_ray.serving.ingress.uploads import ClientUploads
from sa_ray.serving.streamed_bodies import is_form

Mode = Literal["text-to-audio", "audio-to-audio", "inpaint"]

DEFAULT_DURATION: Final = 190.0
"""Seconds of a clip made from a prompt alone."""

NAMES: Final = {
    "init_audio": "audio", "inpaint_audio": "audio", "init_noise_level": "strength",
    "regions": "mask_start", "regions.0": "mask_start", "regions.0.end": "mask_end",
}  # fmt: skip


class StabilityRequest(Body):
    """The texts of a form."""

    prompt: str = Field(description="What to hear.")
    model: str | None = Field(default=None, description="Theirs, or a model here.")
    duration: float | None = Field(
        default=None, description="Seconds. Left out: 190, or as long as `audio`."
    )
    seed: int = Field(default=0, ge=0, description="0 draws one.")
    steps: int | None = Field(default=None, description="Left out: the model's own.")
    cfg_scale: float | None = Field(default=None, description="Left out: the model's own.")
    output_format: Literal["mp3", "wav"] = "mp3"
    negative_prompt: str | None = Field(default=None, description="Ours: what to keep out.")
    strength: float | None = Field(
        default=None, ge=0, le=1, description="Of `audio-to-audio`: 0 leaves it as it is."
    )
    mask_start: float | None = Field(default=None, ge=0, description="Seconds, of `inpaint`.")
    mask_end: float | None = Field(default=None, gt=0, description="Seconds, of `inpaint`.")


def _form_schema() -> dict[str, Any]:
    schema = StabilityRequest.model_json_schema()
    audio = {"type": "string", "format": "binary", "description": "Of the two that edit."}
    return {
        "type": "object",
        "properties": schema["properties"] | {"audio": audio},
        "required": schema["required"],
    }


FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": _form_schema()}},
    }
}


async def asked_by(
    http: Request, mode: Mode, uploads: ClientUploads, models: Mapping[str, VariantName | None]
) -> Asked:
    """Return what a form asks for; its file is an upload from then on.

    Raises ``InvalidRequestError`` by the client's names, and as ``take_file`` does.
    """
    if not is_form(http.scope):
        raise InvalidRequestError("The body must be a form: `Content-Type: multipart/form-data`.")
    async with opened_form(http) as form:
        body = _texts(form)
        _require_fitting(body, mode)
        fields: dict[str, Any] = {
            "prompt": body.prompt,
            "negative_prompt": body.negative_prompt,
            "model": "medium" if body.model is None else variant_named(body.model, models),
            "duration": body.duration,
            "seed": body.seed or None,
            "steps": body.steps,
            "cfg_scale": body.cfg_scale,
        }
        file = _file(form, mode)
        if file is None:
            fields["duration"] = DEFAULT_DURATION if body.duration is None else body.duration
        elif mode == "audio-to-audio":
            fields |= {"init_noise_level": body.strength}
            fields["init_audio"] = (await take_file(file, uploads, caller_of(http))).id
        else:
            fields["regions"] = [{"start": body.mask_start, "end": body.mask_end}]
            fields["inpaint_audio"] = (await take_file(file, uploads, caller_of(http))).id
    return Asked(fields, Output({"format": body.output_format}), NAMES)


def _texts(form: FormData) -> StabilityRequest:
    given = {name: text for name, text in form.items() if isinstance(text, str) and text}
    try:
        return StabilityRequest.model_validate(given, strict=False)
    except ValidationError as error:
        raise describe_unfit(error, StabilityRequest) from None


def _require_fitting(body: StabilityRequest, mode: Mode) -> None:
    for name, of in (
        ("strength", "audio-to-audio"),
        ("mask_start", "inpaint"),
        ("mask_end", "inpaint"),
    ):
        value = getattr(body, name)
        if value is not None and mode != of:
            raise InvalidRequestError(f"{name}: it goes with {of}. Leave it out.", param=name)
        if value is None and mode == of == "inpaint":
            raise InvalidRequestError(f"{name}: say what is made anew, in seconds.", param=name)


def _file(form: FormData, mode: Mode) -> UploadFile | None:
    """Return the file of a form. Clients without one send an empty part, named `none`."""
    files = {name: part for name, part in form.items() if isinstance(part, UploadFile)}
    file = files.pop("audio", None)
    unknown = [name for name, part in files.items() if part.size]
    if unknown or (file and mode == "text-to-audio"):
        name = unknown[0][:80] if unknown else "audio"
        raise InvalidRequestError(f"{name}: {mode} takes no such file.", param=name)
    if file is None and mode != "text-to-audio":
        raise InvalidRequestError(
            "audio is missing: send the file in the part of that name.", param="audio"
        )
    return file
