"""Say how a service is reached: by which address, key and patience."""

import os
from typing import Any

import httpx

from sa_ray.client.calls import Call
from sa_ray.errors import ConfigurationError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts to which no proxy of the environment leads."""

API_KEY_VARIABLE = "STABLE_AUDIO_API_KEY"

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
"""Longest silence of a call that is answered from memory or a store."""


class Target:
    """The service at ``base_url``, and what httpx has to know to reach it."""

    def __init__(
        self, base_url: str, api_key: str | None, timeout_s: float, retry_s: float
    ) -> None:
        self.retry_s = retry_s
        self._url = httpx.URL(base_url)
        self._key = (os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key).strip()
        self._timeout_s = timeout_s
        if not (self._key.isascii() and self._key.isprintable()):
            # httpx would say so too, with the key in its words.
            raise ConfigurationError(
                f"The API key (api_key, or {API_KEY_VARIABLE}) has characters that no key has, as "
                "a line end in its middle: give it as it was made."
            )

    def own(self) -> dict[str, Any]:
        """Return the arguments of an httpx client for the service."""
        return {
            "base_url": self._url,
            "headers": {"Authorization": f"Bearer {self._key}"} if self._key else None,
            **self.other(self._url),
        }

    def other(self, url: httpx.URL | str) -> dict[str, Any]:
        """Return those of one for a store, to which proxies of the environment may lead."""
        return {
            "timeout": _timeout(self._timeout_s),
            "trust_env": httpx.URL(url).host not in LOOPBACK,
        }

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """Return the arguments of the request of ``call``, but for its body if that is a file."""
        silence_s = self._timeout_s
        if call.silence_s is not None:
            silence_s = call.silence_s + min(self._timeout_s, ANSWER_TIMEOUT_S)
        return {
            "method": call.method,
            "url": call.path,
            "params": call.query,
            "json": call.json,
            "headers": call.headers,
            "timeout": _timeout(silence_s),
        }

    def has(self, url: str) -> bool:
        """Return whether ``url`` is one of the service's own."""
        there = httpx.URL(url)
        return there.is_relative_url or _origin(there) == _origin(self._url)


def _timeout(silence_s: float) -> httpx.Timeout:
    return httpx.Timeout(silence_s, connect=min(silence_s, CONNECT_TIMEOUT_S))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # None is the port of the scheme's own
