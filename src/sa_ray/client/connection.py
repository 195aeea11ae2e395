"""A connection to the service: calls and downloads, tried again while their errors pass."""

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sa_ray.client.retrying import attempts, interrupted
from sa_ray.client.wire import raise_for_error

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts to which no proxy of the environment leads."""

API_KEY_VARIABLE = "STABLE_AUDIO_API_KEY"

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
"""Longest silence of a call that is answered from memory or a store."""

CHUNK_BYTES = 1 << 20


class Connection:
    """What ``Client`` makes its calls by; closed at the end of a ``with`` block.

    ``api_key`` (default: ``STABLE_AUDIO_API_KEY``; empty: none) goes to the origin of ``base_url``,
    and to no other: not where a redirect or the URL of a stored file leads.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 600,
        retry_s: float = 120,
    ) -> None:
        url = httpx.URL(base_url)
        self._origin = _origin(url)
        self._timeout = timeout(timeout_s)
        self._answer_s = min(timeout_s, ANSWER_TIMEOUT_S)
        self._retry_s = retry_s
        key = os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key
        self._http = httpx.Client(
            base_url=base_url,
            timeout=self._timeout,
            trust_env=url.host not in LOOPBACK,
            headers={"Authorization": f"Bearer {key.strip()}"} if key.strip() else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def _fetch(self, url: str, path: Path) -> int:
        there = httpx.URL(url)
        if there.is_relative_url or _origin(there) == self._origin:
            # httpx drops the key where a redirect leads elsewhere.
            streamed = self._http.stream("GET", url, follow_redirects=True)
        else:  # An object store: proxies of the environment may lead to it.
            streamed = httpx.stream(
                "GET",
                url,
                follow_redirects=True,
                timeout=self._timeout,
                trust_env=there.host not in LOOPBACK,
            )
        with streamed as response:
            if response.is_error:
                response.read()
            raise_for_error(response)
            # Beside it first: a download that breaks off leaves what was there.
            part = path.with_name(f"{path.name}.part")
            with part.open("wb") as file:
                size = sum(map(file.write, response.iter_bytes(CHUNK_BYTES)))
            part.replace(path)
            return size

    def _call(
        self,
        method: str,
        path: str,
        *,
        again: Callable[[BaseException], bool] = interrupted,
        **options: Any,
    ) -> httpx.Response:
        """Make a call, and make it ``again`` after such errors."""
        options.setdefault("timeout", timeout(self._answer_s))

        def send() -> httpx.Response:
            response = self._http.request(method, path, **options)
            raise_for_error(response)
            return response

        return attempts(self._retry_s, again)(send)


def timeout(silence_s: float) -> httpx.Timeout:
    return httpx.Timeout(silence_s, connect=min(silence_s, CONNECT_TIMEOUT_S))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # None is the port of the scheme's own
