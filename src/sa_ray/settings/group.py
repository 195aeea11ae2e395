"""Settings groups: each holds what one kind of component is given."""

from typing import Any, Self, cast

from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationInfo, field_validator

from sa_ray.settings.values import trimmed


class SettingsGroup(BaseModel):
    """Base of the groups. Field names are those of ``args``; aliases are environment variables."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)

    @field_validator("*", mode="before")
    @classmethod
    def _trimmed(cls, value: object, info: ValidationInfo) -> object:
        """Trim what was pasted with spaces, a newline or quotes around it. A key of ``args`` that
        is left blank sets its default, whatever the environment says."""
        if isinstance(value, str):
            value = trimmed(value)
        blank_is_meant = info.field_name in ("preload_models", "storage_prefix")
        if value is None or (value == "" and not blank_is_meant):
            return cls.model_fields[str(info.field_name)].get_default(call_default_factory=True)
        return value

    @classmethod
    def taken_from(cls, values: BaseModel) -> Self:
        """Return the group's part of ``values``, which are validated already."""
        part: dict[str, Any] = {name: getattr(values, name) for name in cls.model_fields}
        return cast(Self, cls.model_construct(**part))

    @classmethod
    def variables(cls, field: str) -> list[str]:
        """Return the environment variables that set ``field``, the one that wins first."""
        alias = cast(AliasChoices, cls.model_fields[field].validation_alias)
        return [str(choice) for choice in alias.choices]
