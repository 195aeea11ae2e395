"""Parse the text of settings: model names, blanks, quotes, addresses, key prefixes, secrets."""

import re
from pathlib import PurePath
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from sa_ray.catalogue import VARIANTS, find_variant
from sa_ray.contracts import (
    MAX_KEY_BYTES,
    MAX_WEBHOOK_SECRETS,
    SECRET_RULE,
    VariantName,
    is_sound_key,
    is_webhook_secret,
)

LONGEST_NAME = 48
"""Characters of the longest name of an object: a job id, a fencing token and the format."""

LONGEST_ADAPTER = 90
"""Characters of the longest name of an adapter's object: variant, name and suffix."""

_REDIS = re.compile(r"rediss?://")
_AUTHORITY_OF_REDIS = re.compile(r"(?<=://)(?P<user>[^:/?#]*):(?P<password>[^/?#]*)@")
_AUTHORITY = re.compile(r"(?<=://)(?P<user>[^:/]*):(?P<password>[^@]*)@")
"""User and password as the clients of Redis and of SQL databases tell them from the rest."""

_PASSWORD = re.compile(r"(?<=://)[^:/?#]*:[^@]+@|[?&]\w*password=", re.IGNORECASE)
"""Matches a password in a URL, of its user or in its query, as database drivers take it."""

_WORD = re.compile(r"[^\s\"'<>\\`?#\x00-\x1f\x7f]+")


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
    texts = [text.strip() for text in value.get_secret_value().split(",")]
    if len(texts) > MAX_WEBHOOK_SECRETS:
        raise ValueError(f"holds {len(texts)} secrets; {MAX_WEBHOOK_SECRETS} are the most")
    if not all(map(is_webhook_secret, texts)):
        raise ValueError(
            f"{SECRET_RULE}. While receivers change over: the new one, a comma, the old"
        )
    return SecretStr(",".join(texts))


def _base_url(text: str) -> str:
    password = None
    try:
        parts = urlsplit(text)
        password = parts.password
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not _WORD.fullmatch(text):
        raise ValueError(
            "must be an absolute http:// or https:// URL, without spaces, quotes, `?` and `#`"
        )
    if password is not None:
        raise ValueError("must hold no password, since it is shown to others")
    return text.rstrip("/")


def _header_text(value: SecretStr | None) -> SecretStr | None:
    text = value.get_secret_value() if value else None
    if text and not all("!" <= char <= "~" for char in text):
        raise ValueError(
            "holds a space, a line break or a character that no key has: paste it again, alone"
        )
    return value


def _key_prefix(text: str) -> str:
    prefix = text.strip("/")
    # The rule that the store writes by, for the longest name that follows.
    if prefix and not is_sound_key(f"{prefix}/{'0' * LONGEST_NAME}"):
        raise ValueError(
            "must be names joined by single slashes, none of them `.` or `..`, such as audio/jobs, "
            f"and {MAX_KEY_BYTES - LONGEST_NAME - 1} bytes at most"
        )
    return prefix


def _adapter_place(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme == "s3":
        prefix = parts.path.strip("/")
        if parts.netloc and (not prefix or is_sound_key(f"{prefix}/{'0' * LONGEST_ADAPTER}")):
            return f"s3://{parts.netloc}/{prefix}".rstrip("/")
    elif PurePath(text).is_absolute():
        return text
    raise ValueError(
        "must be a folder by its absolute path, as /models/loras, or a bucket, as s3://bucket/loras"
    )


Variant = Annotated[VariantName, BeforeValidator(_variant)]
"""A model by any of its names."""

Variants = Annotated[tuple[VariantName, ...] | None, NoDecode, BeforeValidator(_variants)]
"""Models in a comma-separated text or a list, without repeats."""

BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""An address that paths are put behind, without a slash at its end."""

AdapterPlace = Annotated[str, AfterValidator(_adapter_place)]
"""An absolute path, or ``s3://<bucket>/<prefix>``, without a slash at its end."""

SecretKey = Annotated[SecretStr | None, AfterValidator(_header_text)]
"""A key that is sent in HTTP headers, and never shown."""

KeyPrefix = Annotated[str, AfterValidator(_key_prefix)]
"""Beginning of the keys in a bucket, without slashes around it; may be empty."""

WebhookSecret = Annotated[SecretStr | None, AfterValidator(_webhook_secret)]
"""One secret of the Standard Webhooks specification, or the new one, a comma and the old one."""


def trimmed(text: str) -> str:
    """Return ``text`` without white space around it, and without a pair of quotes.

    Both come with pasting; quotes also with the ``--env-file`` of Docker, which keeps them.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return text


def holds_password(url: str) -> bool:
    """Return whether there may be a password in ``url``; rather too often than not."""
    return _PASSWORD.search(url) is not None


def without_password(url: str) -> tuple[str, str | None]:
    """Return a URL of a database without its password, and that, decoded; None if it has none."""
    pattern = _AUTHORITY_OF_REDIS if _REDIS.match(url) else _AUTHORITY
    if found := pattern.search(url):
        user = f"{found['user']}@" if found["user"] else ""
        return pattern.sub(lambda _: user, url, count=1), unquote(found["password"]) or None
    address, mark, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    passwords = [value for name, value in pairs if name == "password"]
    if not passwords:
        return url, None
    rest = urlencode([pair for pair in pairs if pair[0] != "password"])
    return f"{address}{mark if rest else ''}{rest}", passwords[-1] or None
