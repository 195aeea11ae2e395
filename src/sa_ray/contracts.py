"""What crosses a boundary: HTTP bodies, messages between deployments, the stored job."""

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

VariantName = Literal["small-sfx", "small-music", "medium"]
AudioFormat = Literal["wav", "flac", "mp3", "ogg"]
JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
StorageBackend = Literal["local", "s3"]
EngineName = Literal["procedural", "stable-audio-3"]
Priority = Literal["high", "normal", "low"]
Sampler = Literal["pingpong", "euler", "dpmpp"]

FINAL_STATUSES: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

SAMPLE_RATE = 44_100
"""Hz; every variant of Stable Audio 3 produces this rate (its ``model_config.json``)."""

MAX_PROMPT_CHARS = 10_000
"""Longest prompt accepted, in characters; the limit of Stability's hosted API."""

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1

MEDIA_TYPES: dict[AudioFormat, str] = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
}

JOB_ID_PATTERN = r"^[0-9a-f]{32}$"

MAX_EXPIRES_IN = 7 * 86_400.0
"""Latest deadline a client may set, seconds after the submit."""

MAX_URL_CHARS = 2_048

MIN_DURATION = 0.01
"""Shortest clip, seconds: below it there is nothing to hear."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character; leave it out")
    return text


_Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_PROMPT_CHARS),
    AfterValidator(_without_nul),
]
_Prompt = Annotated[_Text, StringConstraints(min_length=1)]


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(char.isspace() or ord(char) < 32 for char in text):
        raise ValueError("must be an absolute http:// or https:// URL")
    return text


_HttpUrl = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS), AfterValidator(_http_url)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GenerationRequest(_Strict):
    """One clip to generate: the body of the synchronous endpoints, and the core of a job's."""

    model: str | None = Field(
        default=None,
        description="Variant name or Hugging Face repo id, case-insensitive. "
        "Default: `STABLE_AUDIO_DEFAULT_MODEL`.",
        examples=["small-sfx"],
    )
    prompt: _Prompt = Field(description="What to hear.", examples=["rain on a tin roof"])
    negative_prompt: _Text | None = Field(default=None, description="What to keep out.")
    duration: float = Field(
        default=7.0,
        ge=MIN_DURATION,
        description="Seconds of audio. Capped by the variant and by `STABLE_AUDIO_MAX_DURATION`.",
    )
    steps: int = Field(
        default=8, ge=1, description="Sampling steps, at most `STABLE_AUDIO_MAX_STEPS`."
    )
    cfg_scale: float = Field(
        default=1.0, ge=0, le=20, description="Classifier-free guidance scale."
    )
    apg_scale: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How much of the guidance is projected (adaptive projected guidance): 1 all, "
        "0 none, as plain classifier-free guidance. Without effect where `cfg_scale` is 1. Null: "
        "1. Stable Audio 3 only.",
    )
    sampler: Sampler | None = Field(
        default=None,
        description="How the steps are taken. Null: `pingpong`, which the models are distilled "
        "for. Stable Audio 3 only.",
    )
    seed: int = Field(
        default=RANDOM_SEED,
        ge=RANDOM_SEED,
        le=MAX_SEED,
        description="The same seed and request give the same audio. -1 draws one; the one used "
        "is returned.",
    )
    format: AudioFormat = Field(
        default="wav",
        description="`wav` (16-bit PCM), `flac`, `mp3` or `ogg` (Opus, at 48 kHz).",
    )
    chunked_decode: bool | None = Field(
        default=None, description="Overrides how the model decodes long clips; null: its default."
    )


class JobRequest(GenerationRequest):
    """The body of ``POST /jobs``: a clip, and how the job is to be handled."""

    priority: Priority = Field(
        default="normal",
        description="`high` is served as if submitted 10 minutes earlier, `low` as if 10 minutes "
        "later; nothing waits for ever.",
    )
    expires_in: float | None = Field(
        default=None,
        gt=0,
        le=MAX_EXPIRES_IN,
        description="Seconds from now; a job that has not finished by then fails with "
        "`deadline_exceeded`.",
    )
    webhook_url: _HttpUrl | None = Field(
        default=None,
        description="Called with a signed POST (Standard Webhooks) once the job has ended.",
    )


class ResolvedRequest(_Record):
    """A request with every choice made: what an engine needs, and all it may depend on."""

    model: VariantName
    prompt: str
    negative_prompt: str | None = None
    duration: float
    steps: int
    cfg_scale: float
    apg_scale: float | None = None
    sampler: Sampler | None = None
    seed: int
    format: AudioFormat = "wav"
    chunked_decode: bool | None = None


class AudioInfo(_Record):
    """What is known of a finished clip besides its bytes."""

    engine: EngineName
    sample_rate: int
    """Hz of the encoded file: Opus has no 44.1 kHz and is stored at 48 kHz."""
    channels: int
    duration: float
    """Seconds, exactly the samples generated over their rate."""
    format: AudioFormat
    generation_seconds: float
    """Seconds the engine worked on the batch that held this clip."""


class StoredObject(_Record):
    """An object that the store has confirmed."""

    backend: StorageBackend
    key: str
    size: int
    """Bytes."""
    sha256: str
    """Lower-case hex digest of the content."""


class JobResult(_Record):
    audio: AudioInfo
    object: StoredObject
    upload_seconds: float


class JobError(_Record):
    code: str
    message: str


class Lease(_Record):
    """A worker's right to work on a job until ``expires_at``.

    ``token`` is the fencing token: it grows with every lease of the job, so a report that
    carries an older one is refused.
    """

    token: int
    worker: str
    expires_at: float
    """Unix seconds."""


class Webhook(_Record):
    """The call that tells a client of the end of its job. Times are Unix seconds."""

    url: str
    next_attempt_at: float | None = None
    """Null until the job has ended, and again once delivered or given up."""
    attempts: int = 0
    delivered_at: float | None = None
    error: str | None = None
    """What the last attempt that failed met."""


class Job(_Record):
    """The stored job. Times are Unix seconds (UTC). Only ``jobs.lifecycle`` makes new versions."""

    id: str = Field(pattern=JOB_ID_PATTERN)
    request: ResolvedRequest
    priority: Priority = "normal"
    deadline: float | None = None
    """A job not finished by then fails."""
    idempotency_key: str | None = None
    """Unique among the stored jobs."""
    fingerprint: str | None = None
    """Digest of the client's request, to tell a repeat from another request with its key."""
    status: JobStatus = "queued"
    created_at: float
    started_at: float | None = None
    """When the last attempt was leased; null while queued for the first time."""
    completed_at: float | None = None
    not_before: float
    """A queued job is not leased before this time (backoff after an infrastructure fault)."""
    attempts: int = 0
    """Leases taken so far, not counting those handed back unused."""
    token: int = 0
    """The last fencing token given out for this job."""
    lease: Lease | None = None
    cancel_requested: bool = False
    progress: float = 0.0
    """Fraction in [0, 1] of the current attempt."""
    result: JobResult | None = None
    error: JobError | None = None
    cleanup_at: float | None = None
    """From then on an object must be looked for and deleted: the job ended without a result,
    but was leased, so that an upload may have happened or happen still."""
    webhook: Webhook | None = None
    version: int = 0
    """Grows with every stored change; the compare-and-set key of the store."""


class JobAccepted(BaseModel):
    """The answer to ``POST /jobs``."""

    id: str
    status: JobStatus
    status_url: str


class JobTimings(BaseModel):
    queued_seconds: float | None = None
    generation_seconds: float | None = None
    upload_seconds: float | None = None
    total_seconds: float | None = None


class JobView(BaseModel):
    """A job as a client sees it."""

    id: str
    status: JobStatus
    status_url: str
    model: VariantName
    prompt: str
    negative_prompt: str | None
    duration: float
    steps: int
    cfg_scale: float
    apg_scale: float | None
    sampler: Sampler | None
    seed: int
    format: AudioFormat
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    priority: Priority
    expires_at: datetime | None = Field(description="A job not finished by then fails.")
    queue_position: int | None = Field(
        description="While queued: 1 is next for its variant. Otherwise null."
    )
    progress: float = Field(ge=0, le=100, description="Percent of the generation done.")
    attempts: int
    cancel_requested: bool
    engine: EngineName | None
    sample_rate: int | None
    audio_duration: float | None = Field(description="Exact seconds of the finished audio.")
    size_bytes: int | None
    sha256: str | None
    download_url: str | None
    storage_backend: StorageBackend
    storage_key: str | None
    error: str | None
    error_code: str | None
    timings: JobTimings


class JobPage(BaseModel):
    jobs: list[JobView]
    next_cursor: str | None = Field(
        description="Pass as `cursor` for the next page; null: no more."
    )


class ModelView(BaseModel):
    id: VariantName
    aliases: list[str]
    max_duration_seconds: float
    state: str
    message: str | None


class ModelList(BaseModel):
    default: VariantName
    models: list[ModelView]


class VariantHealth(BaseModel):
    state: Literal["ready", "idle", "starting", "unavailable"]
    """idle: no replica now, one starts at the first request."""
    replicas: int
    message: str | None = None


class ComponentHealth(BaseModel):
    ok: bool
    message: str | None = None


class Health(BaseModel):
    """``status``: ``ok``, ``starting``, or ``degraded`` (serves, but needs an operator)."""

    status: Literal["ok", "degraded", "starting"]
    version: str
    engine: EngineName
    model: VariantName
    device: str
    loaded: bool
    storage_backend: StorageBackend
    available_models: list[VariantName]
    loaded_models: list[VariantName]
    preload_models: list[VariantName]
    model_duration_limits_seconds: dict[VariantName, float]
    max_duration_seconds: float
    max_steps: int
    variants: dict[VariantName, VariantHealth]
    storage: ComponentHealth
    jobs: ComponentHealth
    queued_jobs: int | None
    running_jobs: int | None


class ErrorBody(BaseModel):
    code: str
    message: str
    param: str | None = None
    request_id: str


class ErrorResponse(BaseModel):
    """The one shape of every error."""

    error: ErrorBody
