"""Settings: the one place that reads the environment."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

from dotenv import dotenv_values, find_dotenv
from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sa_ray.catalogue import CATALOGUE, VariantOverride, VariantSpec
from sa_ray.contracts import EngineName, StorageBackend, VariantName
from sa_ray.errors import ConfigurationError
from sa_ray.setting_values import Variant, Variants, WebhookSecret, is_blank, without_blanks

PREFIX = "STABLE_AUDIO_"


BLANK_MEANS_SOMETHING = frozenset({"STABLE_AUDIO_PRELOAD_MODELS"})
"""Blank variables that are not taken for unset ones."""

Device = Literal["auto", "cuda", "mps", "cpu"]
Autoscaling = Literal["backlog", "requests"]


class Settings(BaseSettings):
    """Effective settings. Precedence: arguments > environment > ``.env`` > defaults."""

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        case_sensitive=True,
        hide_input_in_errors=True,
    )

    # Models
    engine: Literal["auto"] | EngineName = Field(
        "auto",
        validation_alias=AliasChoices("STABLE_AUDIO_ENGINE"),
        description="`stable-audio-3`, `procedural`, or `auto`: the former if it is installed.",
    )
    default_model: Variant = Field(
        "small-sfx",
        validation_alias=AliasChoices("STABLE_AUDIO_DEFAULT_MODEL", "STABLE_AUDIO_MODEL"),
        description="Model used when a request names none.",
    )
    preload_models: Variants = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_PRELOAD_MODELS"),
        description="Comma-separated models to keep loaded (one replica at least). Unset: the "
        "default model. Empty: load each at its first request, release it when idle.",
    )
    device: Device = Field(
        "auto",
        validation_alias=AliasChoices("STABLE_AUDIO_DEVICE"),
        description="`cuda` asks Ray for GPUs, `cpu` and `mps` never do, `auto` does where the "
        "cluster has any.",
    )
    model_half: bool = Field(
        True,
        validation_alias=AliasChoices("STABLE_AUDIO_MODEL_HALF"),
        description="fp16 on CUDA, bfloat16 products on CPUs that have them; no effect elsewhere.",
    )
    hf_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        description="Hugging Face token with access to the gated weights.",
    )
    weights_dir: Path | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_WEIGHTS_DIR"),
        description="Folder with one folder of weights for each model, on every node that serves "
        "it. Unset: the Hugging Face Hub and its cache.",
    )
    variants: dict[VariantName, VariantOverride] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("STABLE_AUDIO_VARIANTS"),
        description="Per-variant resources and batch limits (JSON in the environment, a mapping "
        "in `serve_config.yaml`): `gpu`, `cpu`, `max_replicas`, `max_batch_rows`, "
        "`max_batch_seconds`, `grace_seconds`, `target_wait`.",
    )
    autoscaling: Autoscaling = Field(
        "backlog",
        validation_alias=AliasChoices("STABLE_AUDIO_AUTOSCALING"),
        description="What the number of replicas follows: `backlog`, the seconds of work that "
        "wait, against the `target_wait` of the model; or `requests`, how many requests there "
        "are, as Ray Serve does by itself.",
    )

    # Limits
    max_duration: float = Field(
        380.0,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_DURATION"),
        description="Longest clip the API accepts, seconds. Each model's own cap holds too: "
        "120 for the small ones, 380 for `medium`.",
    )
    max_steps: int = Field(
        50,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_STEPS"),
        description="Most sampling steps the API accepts.",
    )
    max_queued_jobs: int = Field(
        1000,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_QUEUED_JOBS"),
        description="Jobs that may wait; one more is answered 429 with `Retry-After`.",
    )
    max_queued_requests: int = Field(
        64,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_QUEUED_REQUESTS"),
        description="Synchronous requests that may wait for a variant, per ingress replica; one "
        "more is answered 429 with `Retry-After`.",
    )
    ingress_replicas: int = Field(
        1,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_INGRESS_REPLICAS"),
        description="Replicas of the HTTP ingress.",
    )

    # Jobs
    jobs_url: str = Field(
        "sqlite:///.sa-ray/jobs.db",
        validation_alias=AliasChoices("STABLE_AUDIO_JOBS_URL"),
        description="Where job state is kept: `sqlite:///path` (relative to the working "
        "directory of the cluster's head), `postgresql://user:password@host/database`, or "
        "`redis://:password@host:6379/0` (`rediss://` over TLS), with its append-only file on and "
        "`appendfsync always`.",
    )
    job_ttl: float = Field(
        604_800.0,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("STABLE_AUDIO_JOB_TTL"),
        description="Seconds after its end at which a job and its audio are deleted (default: "
        "seven days).",
    )
    webhook_secret: WebhookSecret = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_WEBHOOK_SECRET"),
        description="Signs webhook calls (Standard Webhooks): `whsec_` and 24 to 64 random bytes "
        "in base64. Unset: requests that name a `webhook_url` are refused.",
    )
    webhook_allow_private: bool = Field(
        False,
        validation_alias=AliasChoices("STABLE_AUDIO_WEBHOOK_ALLOW_PRIVATE"),
        description="Also call webhooks at private, loopback and link-local addresses. Clients "
        "choose those addresses: leave it off where they are not trusted.",
    )
    public_url: str | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_PUBLIC_URL"),
        description="Address at which clients reach the service, for URLs in webhook calls, which "
        "have no request to take it from.",
    )

    # Storage
    output_dir: Path = Field(
        Path("outputs"),
        validation_alias=AliasChoices("STABLE_AUDIO_OUTPUT_DIR"),
        description="Folder for the audio of jobs while no bucket is set.",
    )
    storage_bucket: str | None = Field(
        None,
        validation_alias=AliasChoices(
            "STABLE_AUDIO_STORAGE_BUCKET", "AWS_S3_BUCKET", "R2_BUCKET", "R2_BUCKET_NAME"
        ),
        description="S3 or R2 bucket for the audio of jobs. Set: S3-compatible storage.",
    )
    storage_prefix: str = Field(
        "stable-audio/jobs",
        validation_alias=AliasChoices("STABLE_AUDIO_STORAGE_PREFIX"),
        description="Key prefix of the objects: `<prefix>/<job id>.<format>`.",
    )
    storage_endpoint_url: str | None = Field(
        None,
        validation_alias=AliasChoices(
            "STABLE_AUDIO_STORAGE_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "R2_ENDPOINT_URL",
            "AWS_ENDPOINT_URL",
        ),
        description="Endpoint of an S3-compatible store, such as Cloudflare R2 or MinIO.",
    )
    storage_region: str = Field(
        "us-east-1",
        validation_alias=AliasChoices(
            "STABLE_AUDIO_STORAGE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"
        ),
        description="S3 region; `auto` for Cloudflare R2.",
    )
    storage_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto",
        validation_alias=AliasChoices("STABLE_AUDIO_STORAGE_ADDRESSING"),
        description="Bucket in the path or in the host name.",
    )
    storage_access_key_id: str | None = Field(
        None,
        validation_alias=AliasChoices("AWS_ACCESS_KEY_ID", "R2_ACCESS_KEY_ID"),
        description="Access key. Unset: the AWS credential chain (instance role, profile).",
    )
    storage_secret_access_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY", "R2_SECRET_ACCESS_KEY"),
        description="Secret of the access key.",
    )
    storage_session_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("AWS_SESSION_TOKEN"),
        description="Session token of temporary credentials.",
    )
    storage_public_base_url: str | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_STORAGE_PUBLIC_BASE_URL"),
        description="Public or CDN address of the store; download URLs are built on it instead "
        "of being presigned.",
    )
    presigned_url_expires: int = Field(
        3600,
        ge=1,
        le=604_800,
        validation_alias=AliasChoices("STABLE_AUDIO_PRESIGNED_URL_EXPIRES"),
        description="Lifetime of a presigned download URL, seconds (S3 allows seven days).",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Drop blank variables before a setting chooses among its aliases and sources."""
        for source in (env_settings, dotenv_settings):
            if isinstance(source, EnvSettingsSource):
                source.env_vars = without_blanks(source.env_vars, keep=BLANK_MEANS_SOMETHING)
        return init_settings, env_settings, dotenv_settings

    @field_validator("*", mode="before")
    @classmethod
    def _default_if_blank(cls, value: object, info: ValidationInfo) -> object:
        """A key of ``args`` that is left blank sets its default, whatever the environment says."""
        blank_is_meant = info.field_name in ("preload_models", "storage_prefix")
        if value is None or (is_blank(value) and not blank_is_meant):
            return cls.model_fields[str(info.field_name)].get_default(call_default_factory=True)
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.storage_access_key_id is None) != (self.storage_secret_access_key is None):
            raise ValueError(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or their R2_ names) go together: "
                "set both or neither"
            )
        if (
            self.engine == "stable-audio-3"
            and self.device in ("cpu", "mps")
            and "medium" in self.preloaded
        ):
            raise ValueError(
                f"medium needs CUDA, but STABLE_AUDIO_DEVICE is {self.device} and "
                "STABLE_AUDIO_PRELOAD_MODELS (or the default model) names it"
            )
        return self

    @property
    def preloaded(self) -> tuple[VariantName, ...]:
        return (self.default_model,) if self.preload_models is None else self.preload_models

    @property
    def storage_backend(self) -> StorageBackend:
        return "s3" if self.storage_bucket else "local"

    def spec(self, variant: VariantName) -> VariantSpec:
        """The catalogue's entry with the operator's overrides."""
        override = self.variants.get(variant)
        return override.applied_to(CATALOGUE[variant]) if override else CATALOGUE[variant]

    def duration_limit(self, variant: VariantName) -> float:
        """Longest clip, in seconds, that the API accepts for ``variant``."""
        return min(self.max_duration, self.spec(variant).max_duration)


def environment_names(field: str) -> list[str]:
    """The environment variables that set ``field``, the one that wins first."""
    alias = cast(AliasChoices, Settings.model_fields[field].validation_alias)
    return [str(choice) for choice in alias.choices]


def load_settings(args: Mapping[str, Any] | None = None) -> Settings:
    """Read settings once: ``args`` (keys are field names) over the environment over ``.env``.

    ``.env`` is looked for from the working directory upwards. Raises ``ConfigurationError``
    that names the key for an unknown argument, a malformed value or a contradiction.
    """
    args = dict(args or {})
    for key in args:
        if key not in Settings.model_fields:
            raise ConfigurationError(_unknown(key, list(Settings.model_fields)), param=key)
    dotenv = find_dotenv(usecwd=True)
    known = [name for field in Settings.model_fields for name in environment_names(field)]
    for name in {*os.environ, *(dotenv_values(dotenv) if dotenv else ())}:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigurationError(_unknown(name, known), param=name)
    try:
        return Settings(**args, _env_file=dotenv or None)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except SettingsError:
        # Only `variants` is decoded before it is validated.
        raise ConfigurationError("STABLE_AUDIO_VARIANTS is not valid JSON.") from None


def _unknown(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else " `sa-ray config` lists the settings."
    return f"Unknown setting {key}.{hint}"


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {message}" if where else message)
    return "; ".join(lines)
