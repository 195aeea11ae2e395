"""OpenAI's ``POST /v1/audio/speech``: the one route of its SDKs that answers with audio."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from sa_ray.contracts import ErrorBody, VariantName
from sa_ray.contracts.asked import Asked as Body
from sa_ray.contracts.output import Whole
from sa_ray.errors import OverloadedError, UnavailableError
from sa_ray.serving.ingress.compat.answering import Asked, Output, answer, given
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

router = APIRouter(tags=["openai"])

PCM: Final = Raw(sample_rate=24_000, channels=1)
"""What OpenAI's ``pcm`` is ("Text to speech", supported output formats)."""


def outputs_with(pcm: Raw) -> Mapping[str, Output]:
    """Return what OpenAI's names of formats stand for, where ``pcm`` is that of raw samples."""
    return MappingProxyType(
        {
            "mp3": Output({"format": "mp3"}),
            "opus": Output({"format": "ogg"}),
            "flac": Output({"format": "flac"}),
            "wav": Output({"format": "wav"}),
            "pcm": Output(pcm.fields, pcm, "audio/pcm"),
        }
    )


OUTPUTS: Final = outputs_with(PCM)

MODELS: Final[Mapping[str, VariantName | None]] = MappingProxyType(
    dict.fromkeys(("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"))
)
"""Names of theirs, and what they stand for here: the default model."""


class OpenAIError(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class OpenAIErrorResponse(BaseModel):
    error: OpenAIError


class SpeechRequest(Body):
    """A clip, as OpenAI's clients ask for speech. Fields of ours go into their ``extra_body``."""

    model: str = Field(
        description="A model of this service, or one of OpenAI's names for speech, which stand "
        "for the default one.",
        examples=["small-sfx"],
    )
    input: str = Field(description="`prompt`: what to hear. It is not spoken.", examples=["rain"])
    voice: Any = Field(default=None, description="Ignored, as `X-Ignored` says: nothing speaks.")
    instructions: Annotated[
        Any, Refused("nothing speaks here; say in input what to hear, and leave it out")
    ] = None
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[Any, Refused("a clip is as long as duration says; leave it out", 1)] = None
    stream_format: Literal["audio"] = "audio"
    negative_prompt: str | None = Field(default=None, description="Ours: what to keep out.")
    duration: float | None = Field(default=None, description="Ours: seconds. Null: 7.")
    steps: Whole | None = Field(default=None, description="Ours: sampling steps.")
    cfg_scale: float | None = Field(default=None, description="Ours: guidance.")
    seed: Whole | None = Field(default=None, description="Ours. Null: one is drawn.")


def status_of(ours: int) -> int:
    """Theirs have 400 for fields that are not taken."""
    return 400 if ours == 422 else ours


def _kind(status: int) -> str:
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    return kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")


def write_error(error: ErrorBody, status: int) -> OpenAIErrorResponse:
    """Return ``error`` in OpenAI's shape."""
    told = OpenAIError(
        message=error.message, type=_kind(status), param=error.param, code=error.code
    )
    return OpenAIErrorResponse(error=told)


ERRORS: Final = ErrorShape(paths("/v1/audio/speech"), status_of, write_error)

FORMAT: Final = Format(router, ERRORS)


@router.post(
    "/v1/audio/speech",
    response_class=StreamingResponse,
    responses=audio_of("audio/pcm")
    | documented(ERRORS, OpenAIErrorResponse, *BODY_ERRORS, OverloadedError, UnavailableError),
)
async def speech(body: SpeechRequest, services: ServicesDep, http: Request) -> Response:
    """Make a clip for a client of OpenAI's. It is sent once it is made."""
    ours = ("negative_prompt", "duration", "steps", "cfg_scale", "seed")
    asked = Asked(
        fields={"prompt": body.input, "model": variant_named(body.model, MODELS)}
        | body.model_dump(include=set(ours)),
        output=OUTPUTS[body.response_format],
        names={"prompt": "input"},
        ignored=given(body, "voice"),
    )
    return await answer(asked, services, http)
