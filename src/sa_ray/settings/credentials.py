"""Settings of Content Credentials: what signs that a file was made by a machine."""

from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, model_validator

from sa_ray.settings.group import SettingsGroup


class CredentialSettings(SettingsGroup):
    """Who signs files by C2PA. Unset: nobody, and their tags alone say what made them."""

    c2pa_certificate: Path | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_C2PA_CERTIFICATE"),
        description="PEM file of the certificate that signs WAV, FLAC and MP3 files by C2PA, and "
        "of those that lead to its authority; on every node that serves a model. Needs the extra "
        "`c2pa`.",
    )
    c2pa_key: Path | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_C2PA_KEY"),
        description="PEM file of that certificate's private key, not encrypted.",
    )

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise ValueError(
                "STABLE_AUDIO_C2PA_CERTIFICATE and STABLE_AUDIO_C2PA_KEY go together: set both or "
                "neither"
            )
        return self
