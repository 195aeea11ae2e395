"""Headers that Serve's proxy cannot read do not reach it."""

import pytest
from starlette.types import Receive, Scope, Send

from sa_ray.serving.proxy_front import middlewares


async def forwarded(*headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers that come through to the proxy."""
    seen: list[Scope] = []

    async def proxy(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    async def unused(*_: object) -> None:
        raise AssertionError

    [middleware] = middlewares()
    app = middleware.cls(proxy, *middleware.args, **middleware.kwargs)
    await app({"type": "http", "headers": [*headers]}, unused, unused)
    return seen[0]["headers"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "value", [b"", b"  ", "å".encode("latin-1"), "å".encode(), b"\xff\xfe", b"a\x00b", b"x" * 256]
)
@pytest.mark.parametrize("name", [b"x-request-id", b"x-session-id"])
async def test_a_header_that_cannot_be_read_is_as_good_as_none(name: bytes, value: bytes) -> None:
    other = (b"accept", value)

    assert await forwarded((name, value), other) == [other]


async def test_all_others_come_through() -> None:
    headers = [(b"x-request-id", b"request 7"), (b"x-other", b"\xff"), (b"host", b"test")]

    assert await forwarded(*headers) == headers
