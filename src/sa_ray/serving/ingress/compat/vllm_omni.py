"""vLLM-Omni's ``POST /v1/audio/generate``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from sa_ray.contracts import VariantName
from sa_ray.contracts.asked import Asked as Body
from sa_ray.contracts.output import Whole
from sa_ray.errors import OverloadedError, UnavailableError
from sa_ray.serving.ingress.compat.answering import Asked, answer
from sa_ray.serving.ingress.compat.formats import (
    Format,
    Refused,
    audio_of,
    documented,
    paths,
    variant_named,
)
from sa_ray.serving.ingress.compat.openai import (
    OpenAIErrorResponse,
    outputs_with,
    status_of,
    write_error,
)
from sa_ray.serving.ingress.compat.raw_audio import Raw
from sa_ray.serving.ingress.errors import ErrorShape
from sa_ray.serving.ingress.routes.generation import BODY_ERRORS
from sa_ray.serving.ingress.services import ServicesDep

router = APIRouter(tags=["vllm-omni"])

OUTPUTS: Final = outputs_with(Raw(sample_rate=44_100, channels=2))

MODELS: Final[Mapping[str, VariantName | None]] = MappingProxyType(
    {"stabilityai/stable-audio-open-1.0": None}
)
"""Names of theirs, and what they stand for here: the default model."""

NAMES: Final = MappingProxyType(
    {
        "prompt": "input",
        "duration": "audio_length",
        "cfg_scale": "guidance_scale",
        "steps": "num_inference_steps",
    }
)


class GenerateRequest(Body):
    """A clip, as clients of vLLM-Omni ask for it."""

    input: str = Field(description="`prompt`: what to hear.", examples=["rain on a tin roof"])
    model: str | None = Field(default=None, description="Null: the default one.")
    response_format: Literal["wav", "mp3", "flac", "pcm", "opus"] = "wav"
    speed: Annotated[Any, Refused("a clip is as long as audio_length says; leave it out", 1)] = None
    audio_length: float | None = Field(default=None, description="Seconds. Null: 7.")
    audio_start: Annotated[Any, Refused("every clip starts at 0; leave it out", 0)] = None
    negative_prompt: str | None = Field(default=None, description="What to keep out.")
    guidance_scale: float | None = Field(default=None, description="Null: the model's own.")
    num_inference_steps: Whole | None = Field(default=None, description="Null: the model's own.")
    seed: Whole | None = Field(default=None, description="Null: one is drawn.")


ERRORS: Final = ErrorShape(paths("/v1/audio/generate"), status_of, write_error)

FORMAT: Final = Format(router, ERRORS)


@router.post(
    "/v1/audio/generate",
    response_class=StreamingResponse,
    responses=audio_of("audio/pcm")
    | documented(ERRORS, OpenAIErrorResponse, *BODY_ERRORS, OverloadedError, UnavailableError),
)
async def generate_audio(body: GenerateRequest, services: ServicesDep, http: Request) -> Response:
    """Make a clip for a client of vLLM-Omni."""
    theirs = {ours: NAMES.get(ours, ours) for ours in (*NAMES, "negative_prompt", "seed")}
    model = None if body.model is None else variant_named(body.model, MODELS)
    asked = Asked(
        fields={ours: getattr(body, name) for ours, name in theirs.items()} | {"model": model},
        output=OUTPUTS[body.response_format],
        names=NAMES,
    )
    return await answer(asked, services, http)
