"""Settings of limits: on one request, and on how many may wait."""

from typing import Literal, Self

from pydantic import AliasChoices, Field, model_validator

from sa_ray.settings.group import SettingsGroup


class LimitSettings(SettingsGroup):
    """Limits on one request, on the requests that the ingress takes, and on what it tells."""

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
    max_queued_requests: int = Field(
        64,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_QUEUED_REQUESTS"),
        description="Synchronous requests that may wait for a variant, per ingress replica, "
        "besides as many as all the replicas that it may have take at once; one more is answered "
        "429 with `Retry-After`. At least a batch.",
    )
    max_waiting_requests: int = Field(
        1000,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_WAITING_REQUESTS"),
        description="Requests that may wait for jobs (`?wait=` and event streams), per ingress "
        "replica; one more is answered 429 with `Retry-After`. Other requests have room besides.",
    )
    max_open_per_client: int = Field(
        100,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_OPEN_PER_CLIENT"),
        description="Of those, how many one client address may have open, per ingress replica; and "
        "as many downloads, per proxy. One more is answered 429 with `Retry-After`. Behind a "
        "reverse proxy all clients have its address, unless `FORWARDED_ALLOW_IPS` names it: see "
        "the operator's page.",
    )
    max_downloads: int = Field(
        200,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_DOWNLOADS"),
        description="Downloads through the service that may be under way, per proxy (one a node); "
        "one more is answered 429 with `Retry-After`. A download holds 2 MiB while its client "
        "takes nothing. Those from a bucket do not count.",
    )
    max_upload_mb: int = Field(
        100,
        ge=1,
        le=1024,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_UPLOAD_MB"),
        description="Largest file that `POST /v1/uploads` takes, MiB.",
    )
    health_details: Literal["loopback", "everyone"] = Field(
        "loopback",
        validation_alias=AliasChoices("STABLE_AUDIO_HEALTH_DETAILS"),
        description="Who is told more than `status` by `GET /health`, and the `message` of a model "
        "by `GET /v1/models`: `loopback`, requests of the same machine that no proxy has passed on "
        "(`kubectl port-forward` too); or `everyone`.",
    )
    ingress_replicas: int = Field(
        1,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_INGRESS_REPLICAS"),
        description="Replicas of the HTTP ingress; the least of them if "
        "`max_ingress_replicas` is set.",
    )
    max_ingress_replicas: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_INGRESS_REPLICAS"),
        description="Most replicas of the HTTP ingress: there are more than `ingress_replicas` "
        "while those use more than 0.6 of a core each. Unset: their number is fixed.",
    )

    @model_validator(mode="after")
    def _check_ingress(self) -> Self:
        if self.max_ingress_replicas and self.max_ingress_replicas < self.ingress_replicas:
            raise ValueError(
                f"STABLE_AUDIO_MAX_INGRESS_REPLICAS is {self.max_ingress_replicas}, but "
                f"STABLE_AUDIO_INGRESS_REPLICAS, the least, is {self.ingress_replicas}"
            )
        return self

    @property
    def most_ingress_replicas(self) -> int:
        """How many replicas of the ingress there may be."""
        return self.max_ingress_replicas or self.ingress_replicas
