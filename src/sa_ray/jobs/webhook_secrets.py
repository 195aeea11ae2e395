"""Keep receivers' own webhook secrets sealed: the job store never holds one that can be read."""

import hashlib
import hmac
import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sa_ray.contracts import SECRET_PREFIX

_SEALING = b"sa-ray: seal webhook secrets"
_DIGESTING = b"sa-ray: digest webhook secrets"


class UnopenableError(Exception):
    """A sealed secret was not sealed under any of the operator's secrets, or for another URL."""


class WebhookSecrets:
    """Holds the operator's secrets, which sign calls and seal the secrets of receivers.

    ``own``: one or two, ``whsec_`` and base64, the newest first. The first seals; each opens what
    was sealed under it.
    """

    def __init__(self, own: Sequence[str]) -> None:
        self.own = tuple(own)
        keys = [urlsafe_b64encode(_derived(secret, _SEALING)) for secret in own]
        self._sealer = MultiFernet([Fernet(key) for key in keys])
        # The oldest: a new secret beside it does not make another request of a repeat.
        self._digest_key = _derived(own[-1], _DIGESTING)

    def seal(self, url: str, secrets: Sequence[str]) -> str:
        """Return ``secrets`` encrypted, for calls of ``url`` alone."""
        return self._sealer.encrypt(json.dumps([url, *secrets]).encode()).decode("ascii")

    def opened(self, url: str, sealed: str) -> tuple[str, ...]:
        """Return the secrets in ``sealed``. Raises ``UnopenableError``."""
        try:
            sealed_for, *secrets = json.loads(self._sealer.decrypt(sealed))
        except InvalidToken:
            raise UnopenableError from None
        if sealed_for != url:
            raise UnopenableError
        return tuple(secrets)

    def digest(self, secrets: Sequence[str]) -> str:
        """Return what tells ``secrets`` from others and nothing about them."""
        message = json.dumps(list(secrets)).encode()
        return hmac.new(self._digest_key, message, hashlib.sha256).hexdigest()


def _derived(secret: str, purpose: bytes) -> bytes:
    material = b64decode(secret.removeprefix(SECRET_PREFIX))
    return HKDF(SHA256(), length=32, salt=None, info=purpose).derive(material)
