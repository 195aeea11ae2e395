"""The keys that are valid now: looked up by each request, read anew when their file changes."""

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sa_ray.access.keys_file import Key, digest_of, read_keys
from sa_ray.contracts.access import ANYBODY, Caller
from sa_ray.errors import ConfigurationError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""Seconds between two looks at the file: how long a revoked key is still taken."""

NO_DIGEST = bytes(32)

Stamp = tuple[int, int, int, int] | None
"""Device, inode, size and time of change of a file; None: it is not there."""


class Keyring:
    """Tells whom a key belongs to. Without a file there are no keys, and everybody is ``ANYBODY``.

    A file that cannot be used later leaves the keys as they were, and the log says so once for each
    change of it. Raises ``ConfigurationError`` if it cannot be used at first.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._pepper = secrets.token_bytes(32)
        self._by_mark: Mapping[bytes, tuple[bytes, Caller]] = MappingProxyType({})
        self._by_name: Mapping[str, Caller] = MappingProxyType({})
        self._stamp: Stamp = None
        if path is not None:
            self._stamp = _stamp(path)
            self._take(read_keys(path))

    @property
    def has_keys(self) -> bool:
        """Whether a request needs a key. An empty file has none, and lets nobody in."""
        return self._path is not None

    def caller_with(self, secret: bytes) -> Caller | None:
        """Return the caller whose key ``secret`` is; None: nobody's.

        What it does takes the same time for each wrong key: it is digested, the digest is looked up
        under a mark that nobody outside this process can foretell, and compared with what is there
        or with zeros in constant time.
        """
        if not secret:
            return None
        digest = digest_of(secret)
        expected, caller = self._by_mark.get(self._mark(digest), (NO_DIGEST, None))
        return caller if hmac.compare_digest(digest, expected) else None

    def caller(self, name: str) -> Caller | None:
        """Return the caller of that name as it is now; None: there is none, or no longer.

        Whoever was let in before, as those who follow events, is asked for again by this.
        """
        if name == "":
            return None if self.has_keys else ANYBODY
        return self._by_name.get(name)

    def look(self) -> None:
        """Read the file anew if it has changed. Blocks."""
        if self._path is None:
            return
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keys = read_keys(self._path)
        except ConfigurationError as error:
            logger.error("the keys stay as they were, also those revoked since: %s", error.message)
            return
        self._take(keys)
        logger.info("read %d keys from %s", len(keys), self._path)

    async def watch(self) -> None:
        """Look at the file for ever, in a thread."""
        while self._path is not None:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await asyncio.to_thread(self.look)
            except Exception:
                logger.exception("looking for changed keys failed")

    def _take(self, keys: list[Key]) -> None:
        by_mark: dict[bytes, tuple[bytes, Caller]] = {}
        by_name: dict[str, Caller] = {}
        for key in keys:
            by_name[key.name] = caller = key.caller()
            by_mark |= {self._mark(digest): (digest, caller) for digest in key.digests}
        self._by_mark, self._by_name = by_mark, by_name

    def _mark(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._pepper, digest_size=32).digest()


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
