"""Requests: what clients send, and what an engine gets."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from sa_ray.contracts.asked import Asked
from sa_ray.contracts.edit_requests import EditRequest
from sa_ray.contracts.edits import EditFields
from sa_ray.contracts.loras import MAX_LORAS, LoraFields, LoraRequest
from sa_ray.contracts.names import AudioFormat, Priority, Sampler, VariantName
from sa_ray.contracts.output import OutputFields, OutputRequest, Whole
from sa_ray.contracts.record import Record
from sa_ray.contracts.webhook_secret import WebhookSecrets

MAX_PROMPT_CHARS = 10_000
"""Longest prompt accepted, in characters; the limit of Stability's hosted API."""

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1

MAX_VARIATIONS = 8
"""Most clips of one request."""

MAX_EXPIRES_IN = 7 * 86_400.0
"""Latest deadline a client may set, seconds after the submit."""

MAX_URL_CHARS = 2_048

MIN_DURATION = 0.01
"""Shortest clip, seconds: below it there is nothing to hear."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character; leave it out")
    return text


Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_PROMPT_CHARS),
    AfterValidator(_without_nul),
]
Prompt = Annotated[Text, StringConstraints(min_length=1)]


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(char.isspace() or ord(char) < 32 for char in text):
        raise ValueError("must be an absolute http:// or https:// URL")
    return text


HttpUrl = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS), AfterValidator(_http_url)]


MODEL_ONLY = "only a model has it"
"""Annotation of a field that the procedural engine refuses."""


class ClipFields(BaseModel):
    """One clip, as it is asked for, resolved, stored and shown: each has all of these fields.

    Types only, since bounds are those of ``GenerationRequest``: stored jobs, and views of a later
    release, are read whatever its bounds are.
    """

    model: str | None
    prompt: str
    negative_prompt: str | None = None
    duration: float
    """Seconds."""
    steps: int
    cfg_scale: float
    apg_scale: float | None = None
    sampler: Sampler | None = None
    seed: int
    n: int = 1
    """Clips, with the seeds from ``seed`` on."""
    format: AudioFormat = "wav"


class MakingFields(BaseModel):
    """Choices about how a clip is made: asked for, resolved and stored, not shown."""

    chunked_decode: bool | None = None
    retry_bad: bool = False


class GenerationRequest(OutputRequest, EditRequest, MakingFields, ClipFields, Asked):
    """One clip to generate: the body of the synchronous endpoints, and the core of a job's."""

    model: str | None = Field(
        default=None,
        description="Variant name or Hugging Face repo id, case-insensitive. "
        "Default: `STABLE_AUDIO_DEFAULT_MODEL`.",
        examples=["small-sfx"],
    )
    prompt: Prompt = Field(description="What to hear.", examples=["rain on a tin roof"])
    negative_prompt: Text | None = Field(default=None, description="What to keep out.")
    duration: float = Field(
        default=7.0,
        ge=MIN_DURATION,
        description="Seconds of audio. Capped by the variant and by `STABLE_AUDIO_MAX_DURATION`. "
        "Left out with `init_audio` or `inpaint_audio`: as long as that.",
    )
    steps: Whole = Field(
        default=8,
        ge=1,
        description="Sampling steps, at most `STABLE_AUDIO_MAX_STEPS`. Left out: the model's own "
        "number, 8 unless the operator serves other weights; `GET /v1/models` tells it.",
    )
    cfg_scale: float = Field(
        default=1.0,
        ge=0,
        le=20,
        description="Classifier-free guidance scale. Left out: the model's own, as of `steps`.",
    )
    apg_scale: Annotated[float | None, MODEL_ONLY] = Field(
        default=None,
        ge=0,
        le=1,
        description="How much of the guidance is projected (adaptive projected guidance): 1 all, "
        "0 none, as plain classifier-free guidance. Without effect where `cfg_scale` is 1. Null: "
        "1. Stable Audio 3 only.",
    )
    sampler: Annotated[Sampler | None, MODEL_ONLY] = Field(
        default=None,
        description="How the steps are taken. Null: `pingpong`, which the models are distilled "
        "for. Stable Audio 3 only.",
    )
    loras: Annotated[list[LoraRequest], MODEL_ONLY] = Field(
        default=[],
        max_length=MAX_LORAS,
        description="Adapters (LoRA) to make it with, each once, in any order; `GET /v1/loras` "
        "lists them. Stable Audio 3 only.",
    )
    seed: Whole = Field(
        default=RANDOM_SEED,
        ge=RANDOM_SEED,
        le=MAX_SEED,
        description="The same seed and request give the same audio. -1 draws one; the one used "
        "is returned.",
    )
    n: Whole = Field(
        default=1,
        ge=1,
        le=MAX_VARIATIONS,
        description="Clips to make, of the same request with the seeds `seed` to `seed + n - 1` "
        "(after 4294967295 comes 0). Each is a file of its own.",
    )
    format: AudioFormat = Field(
        default="wav",
        description="`wav`, `flac`, `mp3` or `ogg` (Opus, at 48 kHz).",
    )
    chunked_decode: bool | None = Field(
        default=None, description="Overrides how the model decodes long clips; null: its default."
    )
    retry_bad: bool = Field(
        default=False,
        description="If the clip is silent or constant, or has samples that are not numbers, make "
        "it once more with the next seed (of `n` clips: with its seed and `n`), which is then the "
        "one returned. A clip that is still "
        "without sound comes with a warning; one of broken samples is an error.",
    )


class JobRequest(GenerationRequest):
    """The body of ``POST /jobs``: a clip, and how the job is to be handled."""

    priority: Priority = Field(
        default="normal",
        description="`high` is served as if there were 10 minutes of work less before it, `low` as "
        "if there were 10 minutes more; nothing waits for ever. Within a priority, clients with "
        "keys of their own share the work fairly.",
    )
    expires_in: float | None = Field(
        default=None,
        gt=0,
        le=MAX_EXPIRES_IN,
        description="Seconds from now; a job that has not finished by then fails with "
        "`deadline_exceeded`.",
    )
    webhook_url: HttpUrl | None = Field(
        default=None,
        description="Called with a signed POST (Standard Webhooks) once the job has ended.",
    )
    webhook_secret: WebhookSecrets | None = Field(
        default=None,
        description="Signs the calls of `webhook_url` in place of the operator's secret, which "
        "other clients' calls are signed by too: `whsec_` and 24 to 64 random bytes in base64; or "
        "a list of two while the receiver changes over, for a signature by each. Never shown.",
    )


class ResolvedRequest(OutputFields, MakingFields, LoraFields, EditFields, ClipFields, Record):
    """A request with every choice made: what an engine needs, and all it may depend on."""

    model: VariantName
    traceparent: str | None = Field(default=None, exclude=True, repr=False)
    """W3C trace context of the span that has it made. Goes with calls, where replicas of the deploy
    before take no notice of it; is not stored, and nothing that is made depends on it."""

    busy: dict[str, float] | None = Field(default=None, exclude=True, repr=False)
    """Replicas that have turned it away, and the Unix time until which each is busy. Empty: one
    may, as its sender then sends it again; None: none may. Goes with calls as ``traceparent``."""

    def traced(self, traceparent: str | None) -> Self:
        """Return this request as the span ``traceparent`` has it made; None: there is none."""
        return self.model_copy(update={"traceparent": traceparent}) if traceparent else self

    def offered(self, busy: dict[str, float]) -> Self:
        """Return this request as one that has been turned away by the replicas ``busy``."""
        return self.model_copy(update={"busy": busy})

    def variations(self) -> list[Self]:
        """Return the requests of the single clips: those with its seeds, wrapped at 2**32."""
        seeds = ((self.seed + index) % (MAX_SEED + 1) for index in range(self.n))
        return [self.model_copy(update={"seed": seed, "n": 1}) for seed in seeds]


def fields_only_a_model_has() -> list[str]:
    """Names of the fields that ``MODEL_ONLY`` marks."""
    fields = GenerationRequest.model_fields.items()
    return [name for name, field in fields if MODEL_ONLY in field.metadata]
