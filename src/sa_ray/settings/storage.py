"""Settings of storage: the folder or bucket that keeps the audio of jobs, and that of adapters."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, model_validator

from sa_ray.contracts import StorageBackend
from sa_ray.settings.group import SettingsGroup
from sa_ray.settings.values import AdapterPlace, BaseUrl, KeyPrefix, SecretKey


class StorageSettings(SettingsGroup):
    """The object store: a bucket if one is named, otherwise a folder."""

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
    storage_prefix: KeyPrefix = Field(
        "stable-audio/jobs",
        validation_alias=AliasChoices("STABLE_AUDIO_STORAGE_PREFIX"),
        description="Key prefix of the objects: `<prefix>/<job id>.<format>`; after the first "
        "attempt `<prefix>/<job id>-<n>.<format>`.",
    )
    storage_endpoint_url: BaseUrl | None = Field(
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
    storage_access_key_id: SecretKey = Field(
        None,
        validation_alias=AliasChoices("AWS_ACCESS_KEY_ID", "R2_ACCESS_KEY_ID"),
        description="Access key. Unset: the AWS credential chain (instance role, profile).",
    )
    storage_secret_access_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY", "R2_SECRET_ACCESS_KEY"),
        description="Secret of the access key.",
    )
    storage_session_token: SecretKey = Field(
        None,
        validation_alias=AliasChoices("AWS_SESSION_TOKEN"),
        description="Session token of temporary credentials.",
    )
    storage_public_base_url: BaseUrl | None = Field(
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
        description="Lifetime of a presigned download URL, seconds (S3 allows seven days), and of "
        "the links that this service signs for jobs of API keys.",
    )
    upload_ttl: int = Field(
        86_400,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_UPLOAD_TTL"),
        description="Seconds for which requests can name audio that was sent to "
        "`POST /v1/uploads`. It is deleted as long again after that, an hour at most, but not "
        "while a job that has not ended is made from it.",
    )

    lora_dir: AdapterPlace | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_LORA_DIR"),
        description="Adapters (LoRA) that requests can name, at `<model>/<name>.safetensors` in an "
        "absolute folder, which the ingress and every node that serves a model have to have; or "
        "under `s3://bucket/prefix`, read with the endpoint and keys above. Unset: none.",
    )

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if (self.storage_access_key_id is None) != (self.storage_secret_access_key is None):
            raise ValueError(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or their R2_ names) go together: "
                "set both or neither"
            )
        return self

    def sealed(self) -> Self:
        # A folder needs no keys, so no node has to have any.
        return (
            super().sealed()
            if self.storage_bucket or self.lora_bucket
            else self.model_copy(update=dict.fromkeys(self.secrets()))
        )

    @property
    def lora_bucket(self) -> str | None:
        """The bucket of adapters; None: they are in a folder, or there are none."""
        parts = urlsplit(self.lora_dir or "")
        return parts.netloc if parts.scheme == "s3" else None

    @property
    def storage_backend(self) -> StorageBackend:
        return "s3" if self.storage_bucket else "local"
