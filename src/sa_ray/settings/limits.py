"""Settings of limits: on one request, and on how many may wait."""

from pydantic import AliasChoices, Field

from sa_ray.settings.group import SettingsGroup


class LimitSettings(SettingsGroup):
    """Limits on one request, and on the requests that the ingress takes."""

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
        description="Synchronous requests that may wait for a variant, per ingress replica; one "
        "more is answered 429 with `Retry-After`. At least as many as the jobs that the "
        "dispatcher takes for the variant.",
    )
    max_waiting_requests: int = Field(
        1000,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_WAITING_REQUESTS"),
        description="Requests that may wait for jobs (`?wait=` and event streams), per ingress "
        "replica; one more is answered 429 with `Retry-After`. Other requests have room besides.",
    )
    ingress_replicas: int = Field(
        1,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_INGRESS_REPLICAS"),
        description="Replicas of the HTTP ingress.",
    )
