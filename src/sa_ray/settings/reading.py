"""Read the settings: arguments over the environment over ``.env`` over defaults."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sa_ray.contracts import VariantName
from sa_ray.errors import ConfigurationError
from sa_ray.settings.access import AccessSettings
from sa_ray.settings.credentials import CredentialSettings
from sa_ray.settings.edge import EdgeSettings
from sa_ray.settings.environment import (
    FILE_SUFFIX,
    dotenv_path,
    without_blanks,
    without_files,
)
from sa_ray.settings.group import SettingsGroup, explain
from sa_ray.settings.jobs import JobSettings, WebhookSettings
from sa_ray.settings.limits import LimitSettings
from sa_ray.settings.models import ModelSettings, WeightSettings
from sa_ray.settings.storage import StorageSettings
from sa_ray.settings.values import holds_password

PREFIX = "STABLE_AUDIO_"

OF_CLIENTS = frozenset({"STABLE_AUDIO_API_KEY"})
"""Variables that are not for the service, which may be on the same machine."""

GROUPS: tuple[type[SettingsGroup], ...] = (
    ModelSettings, WeightSettings, LimitSettings, EdgeSettings, AccessSettings, JobSettings,
    WebhookSettings, StorageSettings, CredentialSettings,
)  # fmt: skip
"""All groups, in the order of the documentation."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Effective settings, in groups, so that a component is given only those it needs."""

    models: ModelSettings
    weights: WeightSettings
    limits: LimitSettings
    edge: EdgeSettings
    access: AccessSettings
    jobs: JobSettings
    webhooks: WebhookSettings
    storage: StorageSettings
    credentials: CredentialSettings

    @property
    def groups(self) -> tuple[SettingsGroup, ...]:
        """All groups, in the order of the documentation."""
        return (
            self.models, self.weights, self.limits, self.edge, self.access, self.jobs,
            self.webhooks, self.storage, self.credentials,
        )  # fmt: skip

    def sealed(self) -> "Settings":
        """Return the settings as they may travel: without secrets."""
        groups = {each.name: getattr(self, each.name).sealed() for each in fields(self)}
        return replace(self, **groups)


class _Sources(
    CredentialSettings,
    StorageSettings,
    WebhookSettings,
    JobSettings,
    AccessSettings,
    EdgeSettings,
    LimitSettings,
    WeightSettings,
    ModelSettings,
    BaseSettings,
):
    """All groups together. Precedence: arguments > environment > ``.env`` > defaults."""

    model_config = SettingsConfigDict(
        extra="ignore", case_sensitive=True, hide_input_in_errors=True
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
        """Drop blank variables, and read files of secrets, before a setting chooses among its
        aliases and sources."""
        for source in (env_settings, dotenv_settings):
            if isinstance(source, EnvSettingsSource):
                variables = without_blanks(source.env_vars)
                source.env_vars = without_files(variables, secret_variables())
        return init_settings, env_settings, dotenv_settings


def setting_names() -> list[str]:
    """Return the names of all settings, as ``args`` has them."""
    return [name for group in GROUPS for name in group.model_fields]


def secret_variables() -> list[str]:
    """Return the variables that may be given as a file, ``<name>_FILE``, too."""
    return [variable for group in GROUPS for variable in group.secret_variables()]


def load_settings(args: Mapping[str, Any] | None = None) -> Settings:
    """Read settings once: ``args`` (keys are setting names) over the environment over ``.env``.

    ``.env`` is looked for from the working directory upwards. Raises ``ConfigurationError``
    that names the key for an unknown argument, a secret among them, a malformed value or a
    contradiction.
    """
    args = dict(args or {})
    names = setting_names()
    variables = {name: group.variables(name) for group in GROUPS for name in group.model_fields}
    for key in args:
        if key not in names:
            fitting = {text: name for name in names for text in (*variables[name], name)}
            raise ConfigurationError(_unknown(key, fitting), param=key)
    refuse_secrets(args, "Serve keeps `args`")
    dotenv = dotenv_path()
    fitting = {text: texts[0] for texts in variables.values() for text in texts}
    fitting |= {name + FILE_SUFFIX: name + FILE_SUFFIX for name in secret_variables()}
    for name in {*os.environ, *(dotenv_values(dotenv) if dotenv else ())}:
        if name.upper().startswith(PREFIX) and name not in fitting and name not in OF_CLIENTS:
            raise ConfigurationError(_unknown(name, fitting), param=name)
    try:
        values = _Sources(**args, _env_file=dotenv or None)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None
    except SettingsError:
        # Only `variants` is decoded before it is validated.
        raise ConfigurationError("STABLE_AUDIO_VARIANTS is not valid JSON.") from None
    _require_allowed_steps(values)
    return Settings(
        models=ModelSettings.taken_from(values),
        weights=WeightSettings.taken_from(values),
        limits=LimitSettings.taken_from(values),
        edge=EdgeSettings.taken_from(values),
        access=AccessSettings.taken_from(values),
        jobs=JobSettings.taken_from(values),
        webhooks=WebhookSettings.taken_from(values),
        storage=StorageSettings.taken_from(values),
        credentials=CredentialSettings.taken_from(values),
    )


def _require_allowed_steps(values: _Sources) -> None:
    for name, override in values.variants.items():
        if (override.steps or 0) > values.max_steps:
            raise ConfigurationError(
                f"variants: steps of {name} is {override.steps}, but max_steps "
                f"(STABLE_AUDIO_MAX_STEPS) is {values.max_steps}. Raise it, or lower those."
            )


def duration_limit(models: ModelSettings, limits: LimitSettings, variant: VariantName) -> float:
    """Longest clip, in seconds, that the API accepts for ``variant``."""
    return min(limits.max_duration, models.spec(variant).max_duration)


def refuse_secrets(given: Mapping[str, Any], keeper: str) -> None:
    """Raise ``ConfigurationError`` for a secret in ``given``, by setting or by variable.

    ``keeper``: who shows it to others, as the message begins.
    """
    for group in GROUPS:
        for field in (*group.secrets(), *group.may_hold_secret):
            for name in (field, *group.variables(field)):
                value = given.get(name)
                if value in (None, "") or (field in group.may_hold_secret and not _holds(value)):
                    continue
                variable = group.variables(field)[0]
                raise ConfigurationError(
                    f"{keeper} in plain text, and {name} holds a secret. Take it out, and set "
                    f"{variable} or {variable}{FILE_SUFFIX} (a file with it) for Ray's processes "
                    "on every node. Replace the secret that was given here.",
                    param=name,
                )


def _holds(value: object) -> bool:
    return isinstance(value, str) and holds_password(value)


def _unknown(key: str, fitting: Mapping[str, str]) -> str:
    """Say that ``key`` is none of ``fitting``, whose values are what to write in their place."""
    by_stem = {_stem(text): name for text, name in fitting.items()}
    close = difflib.get_close_matches(_stem(key), by_stem, n=1)
    hint = (
        f" Did you mean {by_stem[close[0]]}?" if close else " `sa-ray config` lists the settings."
    )
    return f"Unknown setting {key}.{hint}"


def _stem(name: str) -> str:
    """Return what tells ``name`` from others; the prefix alone would make any two alike."""
    return name.upper().removeprefix(PREFIX)
