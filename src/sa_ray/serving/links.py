"""Signed links to the audio of jobs, for those who send no key: browsers, receivers of webhooks."""

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Final

from sa_ray.errors import LinkExpiredError

NAME: Final = "audio links"
"""Name of the secret that signs them."""


class Links:
    """Signs links, and checks those that come back.

    ``secret`` returns the one that all replicas sign with; it is asked for once. ``lifetime_s``: of
    a link, seconds. ``clock`` returns Unix seconds.
    """

    def __init__(
        self,
        secret: Callable[[str], Awaitable[str]],
        lifetime_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._key: bytes | None = None

    async def ready(self) -> "LinkSigner":
        """Return what signs links. Raises ``JobStoreError`` or ``UnavailableError``."""
        if self._key is None:
            self._key = (await self._secret(NAME)).encode()
        return LinkSigner(self._key, int(self._clock() + self._lifetime_s))

    async def allows(
        self, job_id: str, index: int, expires: int, signature: str, overdue_s: int = 0
    ) -> bool:
        """Return whether a link with these parameters was signed here.

        Raises ``LinkExpiredError`` if it was, but has expired for ``overdue_s`` seconds, and as
        ``ready`` does.
        """
        signer = await self.ready()
        expected = signer.signature(job_id, index, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return False
        if self._clock() >= expires + overdue_s:
            raise LinkExpiredError(
                f"This link has expired. Read /jobs/{job_id} with your key for a new one."
            )
        return True


class LinkSigner:
    """Signs links that expire at ``expires`` (Unix seconds)."""

    def __init__(self, key: bytes, expires: int) -> None:
        self._key = key
        self._expires = expires

    def query(self, job_id: str, index: int) -> str:
        """Return the parameters to add to the address of a file of a job."""
        signature = self.signature(job_id, index, self._expires)
        return f"expires={self._expires}&signature={signature}"

    def signature(self, job_id: str, index: int, expires: int) -> str:
        message = f"{job_id} {index} {expires}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()
