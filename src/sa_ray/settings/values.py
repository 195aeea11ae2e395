"""Parse the text of settings: model names, blanks, addresses, key prefixes, webhook secrets."""

import base64
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from sa_ray.catalogue import VARIANTS, find_variant
from sa_ray.contracts import VariantName, is_sound_key


def _variant(value: object) -> object:
    found = find_variant(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a model; choose from {', '.join(VARIANTS)}")
    return found


def _variants(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError("give a comma-separated list of models")
    return tuple(dict.fromkeys(_variant(part) for part in value))


def _webhook_secret(value: SecretStr | None) -> SecretStr | None:
    if value is None:
        return None
    prefix, encoded = value.get_secret_value()[:6], value.get_secret_value()[6:]
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except ValueError:
        size = 0
    if prefix != "whsec_" or not 24 <= size <= 64:
        raise ValueError(
            "must be whsec_ followed by 24 to 64 random bytes in base64; "
            "`openssl rand -base64 32` makes them"
        )
    return value


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an absolute http:// or https:// URL")
    return text.rstrip("/")


def _key_prefix(text: str) -> str:
    prefix = text.strip("/")
    if prefix and not is_sound_key(prefix):
        raise ValueError(
            "must be names joined by single slashes, none of them `.` or `..`, such as audio/jobs"
        )
    return prefix


Variant = Annotated[VariantName, BeforeValidator(_variant)]
"""A model by any of its names."""

Variants = Annotated[tuple[VariantName, ...] | None, NoDecode, BeforeValidator(_variants)]
"""Models in a comma-separated text or a list, without repeats."""

PublicUrl = Annotated[str, AfterValidator(_public_url)]
"""An address that clients use, without a slash at its end."""

KeyPrefix = Annotated[str, AfterValidator(_key_prefix)]
"""Beginning of the keys in a bucket, without slashes around it; may be empty."""

WebhookSecret = Annotated[SecretStr | None, AfterValidator(_webhook_secret)]
"""A secret of the Standard Webhooks specification."""


def without_blanks(
    variables: Mapping[str, str | None], *, keep: frozenset[str]
) -> dict[str, str | None]:
    """Drop blank ``variables``, which Compose files and shells make of unset ones."""
    return {
        name: text
        for name, text in variables.items()
        if name in keep or text is None or text.strip()
    }
