"""Connections to a service: make calls, again while their errors pass, and download."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx

from sa_ray.client.calls import Audio, Call
from sa_ray.client.retrying import async_attempts, attempts, interrupted
from sa_ray.client.target import Target
from sa_ray.client.wire import raise_for_error

T = TypeVar("T")

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
        self._target = Target(base_url, api_key, timeout_s, retry_s)
        self._http = httpx.Client(**self._target.own())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls raise ``RuntimeError`` from then on."""
        self._http.close()

    def _do(self, call: Call[T]) -> T:
        def send() -> httpx.Response:
            with _opened(call.audio) as content:
                response = self._http.request(content=content, **self._target.request(call))
            raise_for_error(response)
            return response

        return call.answer(attempts(self._target.retry_s, call.again)(send))

    def _open(self, call: Call[T]) -> httpx.Response:
        """Make a call whose answer is read as it comes, and closed by the caller."""

        def send() -> httpx.Response:
            request = self._http.build_request(**self._target.request(call))
            response = self._http.send(request, stream=True)
            if not response.is_success:
                response.read()
            raise_for_error(response)
            return response

        return attempts(self._target.retry_s, call.again)(send)

    def _download(self, url: str, path: Path) -> int:
        def fetch() -> int:
            with self._reaching(url) as http, http.stream("GET", url, follow_redirects=True) as got:
                if not got.is_success:
                    got.read()
                raise_for_error(got)
                with _whole(path) as part, part.open("wb") as file:
                    return sum(map(file.write, got.iter_bytes(CHUNK_BYTES)))

        return attempts(self._target.retry_s, interrupted)(fetch)

    @contextmanager
    def _reaching(self, url: str) -> Iterator[httpx.Client]:
        if self._target.has(url):  # httpx drops the key where a redirect leads elsewhere.
            yield self._http
            return
        with httpx.Client(**self._target.other(url)) as http:
            yield http


class AsyncConnection:
    """What ``AsyncClient`` makes its calls by; closed at the end of an ``async with`` block.

    Takes what ``Connection`` takes. A call that is cancelled closes its connection, by which the
    service hears of it.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 600,
        retry_s: float = 120,
    ) -> None:
        self._target = Target(base_url, api_key, timeout_s, retry_s)
        self._http = httpx.AsyncClient(**self._target.own())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; calls raise ``RuntimeError`` from then on."""
        await self._http.aclose()

    async def _do(self, call: Call[T]) -> T:
        async def send() -> httpx.Response:
            options = self._target.request(call)
            async with _sent(call.audio, options) as content:
                response = await self._http.request(content=content, **options)
            raise_for_error(response)
            return response

        return call.answer(await async_attempts(self._target.retry_s, call.again)(send))

    async def _open(self, call: Call[T]) -> httpx.Response:
        async def send() -> httpx.Response:
            request = self._http.build_request(**self._target.request(call))
            response = await self._http.send(request, stream=True)
            if not response.is_success:
                await response.aread()
            raise_for_error(response)
            return response

        return await async_attempts(self._target.retry_s, call.again)(send)

    async def _download(self, url: str, path: Path) -> int:
        async def fetch() -> int:
            async with (
                self._reaching(url) as http,
                http.stream("GET", url, follow_redirects=True) as got,
            ):
                if not got.is_success:
                    await got.aread()
                raise_for_error(got)
                size = 0
                with _whole(path) as part:
                    async with await anyio.open_file(part, "wb") as file:
                        async for piece in got.aiter_bytes(CHUNK_BYTES):
                            size += await file.write(piece)
                return size

        return await async_attempts(self._target.retry_s, interrupted)(fetch)

    @asynccontextmanager
    async def _reaching(self, url: str) -> AsyncIterator[httpx.AsyncClient]:
        if self._target.has(url):
            yield self._http
            return
        async with httpx.AsyncClient(**self._target.other(url)) as http:
            yield http


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a file beside ``path`` that replaces it once it is whole, and is gone otherwise."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _opened(audio: Audio | None) -> Iterator[Any]:
    """Open a body anew, piece by piece if it is a file."""
    if audio is None or isinstance(audio, bytes):
        yield audio
        return
    with Path(audio).open("rb") as file:
        yield file


@asynccontextmanager
async def _sent(audio: Audio | None, options: dict[str, Any]) -> AsyncIterator[Any]:
    """Do the same, and announce the length in ``options``, which httpx finds of other bodies."""
    if audio is None or isinstance(audio, bytes):
        yield audio
        return
    async with await anyio.open_file(audio, "rb") as file, aclosing(_pieces(file)) as pieces:
        length = os.fstat(file.wrapped.fileno()).st_size
        options["headers"] = {**options["headers"], "Content-Length": str(length)}
        yield pieces


async def _pieces(file: anyio.AsyncFile[bytes]) -> AsyncGenerator[bytes, None]:
    while piece := await file.read(CHUNK_BYTES):
        yield piece
