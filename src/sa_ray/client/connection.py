"""A connection to the service: calls and downloads, tried again while their errors pass."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sa_ray.client.retrying import attempts, interrupted
from sa_ray.client.wire import raise_for_error

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts to which no proxy of the environment leads."""

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
"""Longest silence of a call that is answered from memory or a store."""

CHUNK_BYTES = 1 << 20


class Connection:
    """What ``Client`` makes its calls by; closed at the end of a ``with`` block."""

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        *,
        timeout_s: float = 600,
        retry_s: float = 120,
    ) -> None:
        self._host = httpx.URL(base_url).host
        self._timeout = timeout(timeout_s)
        self._answer_s = min(timeout_s, ANSWER_TIMEOUT_S)
        self._retry_s = retry_s
        self._http = httpx.Client(
            base_url=base_url, timeout=self._timeout, trust_env=self._host not in LOOPBACK
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
        host = httpx.URL(url).host
        if host in ("", self._host):
            streamed = self._http.stream("GET", url, follow_redirects=True)
        else:  # An object store: proxies of the environment may lead to it.
            streamed = httpx.stream(
                "GET",
                url,
                follow_redirects=True,
                timeout=self._timeout,
                trust_env=host not in LOOPBACK,
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
