"""Settings groups: each holds what one kind of component is given."""

import platform
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast, get_args

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from sa_ray.errors import ConfigurationError
from sa_ray.settings.environment import FILE_SUFFIX, own_variables
from sa_ray.settings.values import trimmed


class Elsewhere(SecretStr):
    """Stands for a secret in settings that travel: whoever needs it reads its own."""

    def __init__(self) -> None:
        super().__init__("elsewhere")

    def get_secret_value(self) -> str:
        """Raise ``RuntimeError``: ``SettingsGroup.opened`` has not been asked."""
        raise RuntimeError("this secret has to be read first, with opened()")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Elsewhere)

    def __hash__(self) -> int:
        return hash(Elsewhere)


class SettingsGroup(BaseModel):
    """Base of the groups. Field names are those of ``args``; aliases are environment variables.

    Ray keeps what it hands from one process to another in plain text. So a group that holds
    secrets cannot be pickled: it travels ``sealed``, and is ``opened`` where it is used.
    """

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)

    may_hold_secret: ClassVar[tuple[str, ...]] = ()
    """Fields whose variable may hold a secret besides other things."""

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

    @classmethod
    def secrets(cls) -> list[str]:
        """Return the fields that are secrets."""
        return [name for name, field in cls.model_fields.items() if _is_secret(field.annotation)]

    @classmethod
    def secret_variables(cls) -> list[str]:
        """Return the variables that may be given as a file, ``<name>_FILE``, too."""
        fields = (*cls.may_hold_secret, *cls.secrets())
        return [variable for field in fields for variable in cls.variables(field)]

    def sealed(self) -> Self:
        """Return the group with ``Elsewhere`` in the place of each secret that is set."""
        held = [name for name in self.secrets() if getattr(self, name) is not None]
        return self.model_copy(update={name: Elsewhere() for name in held})

    def opened(self) -> Self:
        """Return the group with the secrets of this process in the place of ``Elsewhere``.

        Reads the environment, ``.env`` and files anew, so that a secret that was changed in its
        file is found. Raises ``ConfigurationError``, which names the variable and the node, if one
        is missing or malformed here.
        """
        wanted = [name for name in self.secrets() if isinstance(getattr(self, name), Elsewhere)]
        if not wanted:
            return self
        try:
            own = self._own()
            for name in wanted:
                if getattr(own, name) is None:
                    raise ConfigurationError(self._missing(name), param=self.variables(name)[0])
        except ConfigurationError as error:
            raise ConfigurationError(
                f"On node {platform.node()}: {error.message}", param=error.param
            ) from None
        return self.model_copy(update={name: getattr(own, name) for name in wanted})

    def _own(self) -> Self:
        """Return a group with the secrets that this process finds, and nothing else."""
        sources = own_variables(self.secret_variables())
        found: dict[str, Any] = {}
        for field in (*self.secrets(), *self.may_hold_secret):
            if found and field in self.may_hold_secret:
                continue  # what has a variable of its own is not looked for in another
            for source in sources:
                texts = [source[name] for name in self.variables(field) if name in source]
                if texts:
                    found[field] = texts[0]
                    break
        try:
            own = type(self)(**found)
        except ValidationError as error:
            raise ConfigurationError(explain(error)) from None
        self.require_fitting(own, found)
        return own

    def require_fitting(self, own: Self, found: Mapping[str, str]) -> None:
        """Raise ``ConfigurationError`` if the secrets of ``own`` are for something else.

        ``found``: the texts that they were made of, by field.
        """

    @classmethod
    def _missing(cls, field: str) -> str:
        variable = cls.variables(field)[0]
        return (
            f"{variable} is missing, which was set where the application was built. Set it, or "
            f"{variable}{FILE_SUFFIX}, for Ray's processes on every node."
        )

    def __getstate__(self) -> dict[Any, Any]:
        for name in self.secrets():
            value = getattr(self, name)
            if value is not None and not isinstance(value, Elsewhere):
                raise TypeError(f"{name} is a secret: only sealed() settings travel")
        return super().__getstate__()


def explain(error: ValidationError) -> str:
    """Say what is wrong with settings; no value of theirs is repeated."""
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {message}" if where else message)
    return "; ".join(lines)


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(part) for part in get_args(annotation))
