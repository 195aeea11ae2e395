"""Secrets that sign webhook calls, as the Standard Webhooks specification writes them."""

import base64
from typing import Annotated

from pydantic import BeforeValidator, SecretStr, WithJsonSchema

PREFIX = "whsec_"

MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
"""Bounds of the random bytes, by the specification."""

MAX_WEBHOOK_SECRETS = 2
"""Secrets that sign at once: the new and the old one, while a receiver changes over."""

SECRET_RULE = (
    f"must be {PREFIX} followed by {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} random bytes in "
    "base64; `openssl rand -base64 32` makes them"
)


def is_webhook_secret(text: str) -> bool:
    """Return whether ``text`` keeps the ``SECRET_RULE``."""
    try:
        size = len(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except ValueError:
        return False
    return text.startswith(PREFIX) and MIN_SECRET_BYTES <= size <= MAX_SECRET_BYTES


def _secrets(value: object) -> object:
    given = value if isinstance(value, list | tuple) else (value,)
    if not 1 <= len(given) <= MAX_WEBHOOK_SECRETS:
        raise ValueError(
            f"must be one secret, or a list of 1 to {MAX_WEBHOOK_SECRETS}: the new and the old one"
        )
    texts = [one.get_secret_value() if isinstance(one, SecretStr) else one for one in given]
    if not all(isinstance(text, str) and is_webhook_secret(text) for text in texts):
        raise ValueError(SECRET_RULE)
    return tuple(map(SecretStr, texts))


_SCHEMA = {
    "type": "string",
    "format": "password",
    "writeOnly": True,
    "maxLength": len(PREFIX) + 4 * (MAX_SECRET_BYTES // 3 + 1),
}

WebhookSecrets = Annotated[
    tuple[SecretStr, ...],
    BeforeValidator(_secrets),
    WithJsonSchema(
        {
            "anyOf": [
                _SCHEMA,
                {"type": "array", "items": _SCHEMA, "minItems": 1, "maxItems": MAX_WEBHOOK_SECRETS},
            ],
            "writeOnly": True,
        }
    ),
]
"""One secret or a list of them, read as a tuple."""
