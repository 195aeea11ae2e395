"""Answers: what clients see of jobs, models and the service, and every error."""

from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from sa_ray.contracts.generation import ClipFields
from sa_ray.contracts.loras import Lora
from sa_ray.contracts.names import EngineName, JobStatus, Priority, StorageBackend, VariantName

HEARTBEAT_S: Final = 15.0
"""Seconds of silence after which a stream of events has a comment: proxies cut connections that are
silent for a minute, and clients leave those that are silent for longer."""


class JobTimings(BaseModel):
    queued_seconds: float | None = None
    generation_seconds: float | None = None
    upload_seconds: float | None = None
    total_seconds: float | None = None


class JobHead(BaseModel):
    """Names a job."""

    id: str
    status: JobStatus
    status_url: str


class JobAccepted(JobHead):
    """The answer to ``POST /jobs``."""


class MadeFile(BaseModel):
    """One file of those that a request has made."""

    index: int = Field(description="From 0, in the order of the seeds asked for.")
    seed: int
    size_bytes: int
    sha256: str
    audio_duration: float = Field(description="Exact seconds.")
    warning: str | None


class PackedFile(MadeFile):
    """A file in a zip, or in a part of ``multipart/mixed``."""

    name: str


class Manifest(BaseModel):
    """``manifest.json``: what the other files of an answer are."""

    model: VariantName
    engine: EngineName
    files: list[PackedFile]


class JobFile(MadeFile):
    """A file of a job that has succeeded."""

    download_url: str | None
    storage_key: str


class JobView(ClipFields, JobHead):
    """A job as a client sees it."""

    # A view has every field, so no client need know their defaults.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    model: VariantName
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    priority: Priority
    expires_at: datetime | None = Field(description="A job not finished by then fails.")
    queue_position: int | None = Field(
        description="While queued: 1 is next for its variant, and 1000 stands for 1000 and more. "
        "Otherwise null."
    )
    progress: float = Field(ge=0, le=100, description="Percent of the generation done.")
    attempts: int
    cancel_requested: bool
    loras: list[Lora] = Field(
        default=[],
        description="Adapters that it is made with, by name; `sha256`: the digest of each file.",
    )
    engine: EngineName | None
    sample_rate: int | None
    channels: int | None = None
    audio_duration: float | None = Field(description="Exact seconds of the finished audio.")
    size_bytes: int | None
    sha256: str | None
    warning: str | None = Field(
        default=None,
        description="What is wrong with the finished audio (it is silent, or constant), and what "
        "to do about it. Null: nothing was found.",
    )
    download_url: str | None
    storage_backend: StorageBackend
    storage_key: str | None
    error: str | None
    error_code: str | None
    results: list[JobFile] = Field(
        default=[],
        description="Its files, once it has succeeded; the fields above tell of the first.",
    )
    timings: JobTimings


class ListedJob(JobView):
    """A job in a list or an event: null for its prompts, unless they are asked for."""

    prompt: str | None  # type: ignore[assignment]

    @staticmethod
    def of(view: JobView, *, prompts: bool) -> "ListedJob":
        hidden = {} if prompts else {"prompt": None, "negative_prompt": None}
        return ListedJob.model_construct(**{**dict(view), **hidden})


class JobPage(BaseModel):
    jobs: list[ListedJob]
    next_cursor: str | None = Field(
        description="Pass as `cursor` for the next page; null: no more."
    )


class ModelView(BaseModel):
    id: VariantName
    aliases: list[str]
    max_duration_seconds: float
    default_steps: int = Field(description="Sampling steps of a request that names none.")
    default_cfg_scale: float = Field(description="Guidance scale of a request that names none.")
    state: str
    message: str | None


class ModelList(BaseModel):
    default: VariantName
    engine: EngineName | None = Field(
        default=None, description="What makes the sounds here; null: an older service does not say."
    )
    max_steps: int | None = Field(
        default=None, description="Most sampling steps of a request; null: as of `engine`."
    )
    models: list[ModelView]


PresetKind = Literal["sfx", "music", "stems"]


class Preset(BaseModel):
    name: str
    kind: PresetKind = Field(description="`stems`: single instruments and loops.")
    models: list[VariantName] = Field(description="That make this kind of sound, the best first.")
    prompt: str
    duration: float = Field(description="Seconds that fit the sound.")


class PresetList(BaseModel):
    presets: list[Preset]


class VariantHealth(BaseModel):
    state: Literal["ready", "idle", "starting", "unavailable"]
    """idle: no replica now, one starts at the first request."""
    replicas: int
    message: str | None = None
    slowdown: str | None = None
    """Why a replica is slower than it should be, until it is started again; null: none is."""


class ComponentHealth(BaseModel):
    ok: bool
    message: str | None = None


class HealthStatus(BaseModel):
    """``status``: ``ok``, ``starting``, or ``degraded`` (serves, but needs an operator)."""

    status: Literal["ok", "degraded", "starting"]


class Health(HealthStatus):
    """The same, and the details."""

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
