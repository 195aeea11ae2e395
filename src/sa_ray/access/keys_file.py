"""The file of keys: what it may hold, and how it is read."""

import hashlib
import secrets
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sa_ray.catalogue import VARIANTS, find_variant
from sa_ray.contracts import Priority, VariantName
from sa_ray.contracts.access import KEY_NAME_PATTERN, Caller, Limits, Rights, Scope
from sa_ray.errors import ConfigurationError

SECRET_BYTES: Final = 32

HASH_PATTERN: Final = r"^sha256:[0-9a-f]{64}$"

MAX_HASHES: Final = 4

HASH_OF_NOTHING: Final = f"sha256:{hashlib.sha256().hexdigest()}"


def new_secret() -> str:
    """Draw a key of 256 random bits."""
    return f"sar_{secrets.token_urlsafe(SECRET_BYTES)}"


def digest_of(secret: bytes) -> bytes:
    """Return what is known of a key here.

    A plain SHA-256: slow and salted hashes are for secrets that can be guessed, as passwords; 256
    random bits cannot, and a slow hash of each request's key would let strangers keep us busy.
    """
    return hashlib.sha256(secret).digest()


def hash_text(secret: str) -> str:
    """Return the hash of a key as the file has it."""
    return f"sha256:{digest_of(secret.encode()).hex()}"


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _of_a_key(value: str) -> str:
    if value == HASH_OF_NOTHING:
        raise ValueError(
            "is the hash of empty text, so that whoever sends no key would have this one; make a "
            "key by `sa-ray keys create`"
        )
    return value


def _model(value: object) -> object:
    found = find_variant(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a model; choose from {', '.join(VARIANTS)}")
    return found


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class KeyLimits(_Strict, Limits):
    """Limits of a key; those that are left out are none, except that of ``priorities``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    priorities: Annotated[list[Priority], Field(min_length=1)] = ["normal", "low"]
    """``high`` goes before all others: it is given by name."""
    models: Annotated[list[Annotated[VariantName, BeforeValidator(_model)]] | None, Field()] = None


class Key(_Strict):
    """One key, or several that its holder changes over between."""

    name: str = Field(pattern=KEY_NAME_PATTERN)
    hash: Annotated[
        list[Annotated[str, Field(pattern=HASH_PATTERN), AfterValidator(_of_a_key)]],
        BeforeValidator(_listed),
        Field(min_length=1, max_length=MAX_HASHES),
    ]
    scopes: Annotated[list[Scope], Field(min_length=1)] = ["generate", "jobs:own"]
    limits: KeyLimits = KeyLimits()
    webhooks: bool = Field(False, strict=True)
    """Whether its jobs may name a ``webhook_url``."""
    weight: float = Field(1.0, gt=0, le=1000)
    note: str | None = None

    @property
    def digests(self) -> list[bytes]:
        return [bytes.fromhex(text.removeprefix("sha256:")) for text in self.hash]

    def caller(self) -> Caller:
        """Return whom requests with this key come from. ``admin`` may name all."""
        limits = self.limits
        rights = Rights(
            models=None if limits.models is None else frozenset(limits.models),
            priorities=frozenset(limits.priorities),
            webhooks=self.webhooks,
        )
        if "admin" in self.scopes:
            rights = Rights()
        return Caller(
            name=self.name,
            scopes=frozenset(self.scopes),
            limits=Limits(**limits.model_dump(include=set(Limits.model_fields))),
            rights=rights,
            weight=self.weight,
        )


class _Twice(yaml.MarkedYAMLError):
    """A field that is there twice; ``problem`` is its name."""


class _Loader(yaml.SafeLoader):
    """Refuses fields that are there twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue  # which the fields' own check refuses
            if name.value in names:
                raise _Twice(problem=name.value, problem_mark=name.start_mark)
            names.add(name.value)
        return super().construct_mapping(node, deep)


class _Document(_Strict):
    keys: list[Any]


def read_keys(path: Path) -> list[Key]:
    """Read the file of keys.

    Raises ``ConfigurationError``, which names the file, the key and the field, if it cannot be
    read or anything in it is unknown, malformed or there twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise _error(path, f"cannot be read ({reason}); `sa-ray keys create` makes one") from None
    return parse_keys(text, path)


def parse_keys(text: str, path: Path) -> list[Key]:
    """Return the keys in ``text``. Raises as ``read_keys``, which read it from ``path``."""
    try:
        document = _Document.model_validate(yaml.load(text, _Loader))  # noqa: S506 - a safe one
    except _Twice as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise _error(path, f"{error.problem}: is there twice{line}; leave one out") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise _error(path, f"is not valid YAML{place}") from None
    except ValidationError:
        raise _error(path, "must hold `keys:` and a list under it, and nothing else") from None
    keys = [_key(given, number, path) for number, given in enumerate(document.keys, start=1)]
    _require_unique(keys, path)
    return keys


def _key(given: Any, number: int, path: Path) -> Key:
    try:
        return Key.model_validate(given)
    except ValidationError as error:
        name = given.get("name") if isinstance(given, dict) else None
        which = f"key {name!r}"[:80] if isinstance(name, str) else f"key number {number}"
        # Without the input: whoever pastes the key itself would find it in the log.
        found = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [f"{_place(item)}{_message(item)}" for item in found]
        raise _error(path, f"{which}: {'; '.join(lines)}") from None


def _place(item: Any) -> str:
    return f"{'.'.join(map(str, item['loc']))}: " if item["loc"] else ""


def _message(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown field; leave it out"
    message: str = item["msg"]
    return message.removeprefix("Value error, ")


def _require_unique(keys: list[Key], path: Path) -> None:
    names: set[str] = set()
    owners: dict[bytes, str] = {}
    for key in keys:
        if key.name in names:
            raise _error(path, f"key {key.name!r}: name: is there twice; leave one out")
        names.add(key.name)
        for digest in key.digests:
            if digest in owners:
                raise _error(path, f"key {key.name!r}: hash: is also that of {owners[digest]!r}")
            owners[digest] = key.name


def _error(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {what}.", param="STABLE_AUDIO_API_KEYS_FILE")
