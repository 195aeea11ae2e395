"""ElevenLabs' sound effects and music, as its SDK calls them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from sa_ray.contracts import ErrorBody, VariantName
from sa_ray.contracts.asked import Asked as Body
from sa_ray.contracts.output import Whole
from sa_ray.errors import InvalidRequestError, OverloadedError, UnavailableError
from sa_ray.serving.ingress.compat.answering import Asked, Output, answer
from sa_ray.serving.ingress.compat.formats import (
    Format,
    Refused,
    audio_of,
    documented,
    paths,
    variant_named,
)
from sa_ray.serving.ingress.compat.raw_audio import Raw
from sa_ray.serving.ingress.errors import ErrorShape
from sa_ray.serving.ingress.routes.generation import BODY_ERRORS
from sa_ray.serving.ingress.services import ServicesDep
from sa_ray.settings import duration_limit

router = APIRouter(tags=["elevenlabs"])

SOUND_MODELS: Final[Mapping[str, VariantName | None]] = MappingProxyType(
    dict.fromkeys(("eleven_text_to_sound_v2", "eleven_text_to_sound_v3"), "small-sfx")
)
MUSIC_MODELS: Final[Mapping[str, VariantName | None]] = MappingProxyType(
    dict.fromkeys(("music_v1", "music_v2", "music_v2_5"), "small-music")
)
"""Names of theirs, and what they stand for; of music ``medium``, for lengths that only it has."""

DEFAULT_OUTPUT: Final = "mp3_44100_128"

OUTPUTS: Final = (
    "mp3_22050_32", *(f"mp3_44100_{rate}" for rate in (32, 64, 96, 128, 192)),
    *(f"mp3_48000_{rate}" for rate in (128, 192, 320)),
    *(f"opus_48000_{rate}" for rate in (32, 64, 96, 128, 192)),
    *(f"pcm_{rate}" for rate in (8000, 16000, 22050, 24000, 32000, 44100, 48000)),
    "wav_22050", "wav_44100", "wav_48000", "ulaw_8000", "alaw_8000",
)  # fmt: skip
"""Formats that can be had. Theirs are also MP3 at 24 kHz, and WAV at rates of no file here."""

OutputFormat = Annotated[
    str,
    Query(
        max_length=100,
        description=f"{', '.join(OUTPUTS)}; `auto` is {DEFAULT_OUTPUT}.",
    ),
]
Logging = Annotated[bool, Query(description="false is refused: the service's logs stay as set.")]


class ElevenLabsDetail(BaseModel):
    status: str
    message: str
    param: str | None


class ElevenLabsError(BaseModel):
    detail: ElevenLabsDetail


class SoundRequest(Body):
    """A sound effect."""

    text: str = Field(description="`prompt`: what to hear.", examples=["rain on a tin roof"])
    loop: bool | None = Field(default=None, description="The end goes over into the start.")
    duration_seconds: float | None = Field(default=None, description="Null: 7.")
    prompt_influence: Annotated[
        Any, Refused("the models here follow the prompt as they do; leave it out", 0.3)
    ] = None
    model_id: str = Field(default="eleven_text_to_sound_v2", description="Theirs, or a model here.")
    seed: Whole | None = Field(default=None, description="Ours. Null: one is drawn.")


class MusicRequest(Body):
    """Music, without voices: Stable Audio 3 makes none."""

    prompt: str | None = Field(default=None, description="What to hear.", examples=["slow piano"])
    music_length_ms: Whole | None = Field(default=None, description="Null: 30000.")
    model_id: str = Field(default="music_v1", description="Theirs, or a model here.")
    seed: Whole | None = Field(default=None, description="Null: one is drawn.")
    force_instrumental: bool | None = Field(default=None, description="It always is.")
    composition_plan: Annotated[
        Any, Refused("there are no sections here; say it all in prompt")
    ] = None
    finetune_id: Annotated[Any, Refused("there are no finetunes of theirs here")] = None
    respect_sections_durations: Annotated[
        Any, Refused("it goes with composition_plan, which is not taken here")
    ] = None
    store_for_inpainting: Annotated[
        Any, Refused("send the clip to POST /v1/uploads to inpaint it", False)
    ] = None
    sign_with_c2pa: Annotated[
        Any, Refused("the operator chooses what is signed, with STABLE_AUDIO_C2PA_*", False)
    ] = None


def write_error(error: ErrorBody, status: int) -> ElevenLabsError:
    """Return ``error`` in ElevenLabs' shape."""
    told = ElevenLabsDetail(status=error.code, message=error.message, param=error.param)
    return ElevenLabsError(detail=told)


ERRORS: Final = ErrorShape(
    paths("/v1/sound-generation", "/v1/music(?:/.*)?"), lambda ours: ours, write_error
)

FORMAT: Final = Format(router, ERRORS)

ANSWERS: Final = audio_of("audio/pcm", "audio/basic", "audio/x-alaw-basic") | documented(
    ERRORS, ElevenLabsError, *BODY_ERRORS, OverloadedError, UnavailableError
)


@router.post("/v1/sound-generation", response_class=StreamingResponse, responses=ANSWERS)
async def sound(
    body: SoundRequest,
    services: ServicesDep,
    http: Request,
    output_format: OutputFormat = DEFAULT_OUTPUT,
    enable_logging: Logging = True,
) -> Response:
    """Make a sound effect for a client of ElevenLabs'. It is sent once it is made."""
    _require_logging(enable_logging)
    asked = Asked(
        fields={
            "prompt": body.text,
            "model": variant_named(body.model_id, SOUND_MODELS, "model_id"),
            "duration": body.duration_seconds,
            "loop": body.loop,
            "seed": body.seed,
        },
        output=output_of(output_format),
        names={"prompt": "text", "duration": "duration_seconds"},
    )
    return await answer(asked, services, http)


@router.post("/v1/music", response_class=StreamingResponse, responses=ANSWERS)
@router.post("/v1/music/stream", response_class=StreamingResponse, responses=ANSWERS)
async def music(
    body: MusicRequest,
    services: ServicesDep,
    http: Request,
    output_format: OutputFormat = DEFAULT_OUTPUT,
    enable_logging: Logging = True,
) -> Response:
    """Make music for a client of ElevenLabs'. It is sent once it is made, streamed or not."""
    _require_logging(enable_logging)
    if body.prompt is None:
        raise InvalidRequestError("prompt: say what to hear.", param="prompt")
    seconds = 30.0 if body.music_length_ms is None else body.music_length_ms / 1000
    model = variant_named(body.model_id, MUSIC_MODELS, "model_id")
    if body.model_id in MUSIC_MODELS and model:
        shorter = seconds <= duration_limit(services.models, services.limits, model)
        model = model if shorter else "medium"
    asked = Asked(
        fields={"prompt": body.prompt, "model": model, "duration": seconds, "seed": body.seed},
        output=output_of(output_format),
        names={"duration": "music_length_ms"},
    )
    return await answer(asked, services, http)


def output_of(name: str) -> Output:
    """Return what a name of theirs stands for.

    ``pcm_*`` is 16 bits, little-endian, stereo; ``ulaw_8000`` and ``alaw_8000`` are mono. Raises
    ``InvalidRequestError`` for one that cannot be had.
    """
    name = DEFAULT_OUTPUT if name == "auto" else name
    if name not in OUTPUTS:
        raise InvalidRequestError(
            f"output_format: {name[:100]!r} cannot be had here. Choose one of "
            f"{', '.join(OUTPUTS)}.",
            param="output_format",
        )
    kind, rate, *bitrate = name.split("_")
    match kind:
        case "pcm":
            raw = Raw(int(rate), channels=2)
            return Output(raw.fields, raw, "audio/pcm")
        case "ulaw":
            raw = Raw(int(rate), channels=1, code="ULAW")
            return Output(raw.fields, raw, "audio/basic")
        case "alaw":
            raw = Raw(int(rate), channels=1, code="ALAW")
            return Output(raw.fields, raw, "audio/x-alaw-basic")
        case "opus":
            return Output({"format": "ogg", "bitrate": int(bitrate[0])})
        case "mp3":
            return Output({"format": "mp3", "sample_rate": int(rate), "bitrate": int(bitrate[0])})
        case _:
            return Output({"format": "wav", "sample_rate": int(rate)})


def _require_logging(enabled: bool) -> None:
    if not enabled:
        raise InvalidRequestError(
            "enable_logging: the service logs what its operator has set. Leave it out.",
            param="enable_logging",
        )
