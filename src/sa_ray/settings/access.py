"""Settings of access: who may use the service."""

from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, model_validator

from sa_ray.settings.group import SettingsGroup


class AccessSettings(SettingsGroup):
    """Who may use the service. The keys themselves are in no setting, as settings travel."""

    api_keys_file: Path | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_API_KEYS_FILE"),
        description="YAML file of the keys that clients need, which `sa-ray keys` writes; on every "
        "node that serves HTTP. Read again when it changes. Unset: no key is needed, and only "
        "clients on the machine of the service are answered.",
    )
    allow_anonymous: bool = Field(
        False,
        validation_alias=AliasChoices("STABLE_AUDIO_ALLOW_ANONYMOUS"),
        description="`true`: without keys, clients of every address may do everything. For where "
        "only trusted clients can reach the service.",
    )

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if self.api_keys_file is not None and self.allow_anonymous:
            raise ValueError(
                "STABLE_AUDIO_API_KEYS_FILE and STABLE_AUDIO_ALLOW_ANONYMOUS=true contradict each "
                "other: keys are of no use where nobody needs one. Leave one out"
            )
        return self
