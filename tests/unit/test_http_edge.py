"""HEAD as GET without a body, and URLs under the prefix that a proxy has taken away."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from sa_ray.serving.ingress.edge import Edge
from sa_ray.serving.ingress.errors import install_error_handlers
from sa_ray.serving.ingress.guard import Guard


@pytest.fixture
def public_url() -> str | None:
    return None


@pytest.fixture
def app(public_url: str | None) -> FastAPI:
    app = FastAPI()

    @app.get("/where")
    async def where(request: Request) -> dict[str, str]:
        return {"base": str(request.base_url), "path": request.url.path}

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"still here"

        return StreamingResponse(body())

    install_error_handlers(app)
    app.add_middleware(Edge, public_url=public_url)
    app.add_middleware(Guard, max_upload_mb=1)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_head_has_the_headers_of_get(client: httpx.AsyncClient) -> None:
    get, head = await client.get("/where"), await client.head("/where")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers


async def test_head_of_a_stream_that_never_ends_is_answered(client: httpx.AsyncClient) -> None:
    head = await client.head("/endless")

    assert (head.status_code, head.content) == (200, b"")


async def test_head_of_nothing_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.head("/nothing")).status_code == 404


@pytest.mark.parametrize("prefix", ["/audio", "/audio/", "/a/b-2", "/where"])
async def test_urls_are_under_the_forwarded_prefix(client: httpx.AsyncClient, prefix: str) -> None:
    answer = await client.get("/where", headers={"X-Forwarded-Prefix": prefix})

    base = f"http://test{prefix.rstrip('/')}/"
    assert answer.json()["base"] == base
    missing = await client.get("/nothing", headers={"X-Forwarded-Prefix": prefix})
    assert missing.status_code == 404


@pytest.mark.parametrize(
    "prefix", ["", "/", "audio", "//evil.example", "/../x", "/a b", "/a?b", "/é", "/" + "a" * 300]
)
async def test_a_prefix_that_is_none_is_ignored(client: httpx.AsyncClient, prefix: str) -> None:
    headers = {"X-Forwarded-Prefix": prefix.encode()}
    answer = await client.get("/where", headers=headers)

    assert answer.json()["base"] == "http://test/"


@pytest.mark.parametrize(
    ("public_url", "docs"),
    [
        ("https://audio.example", "/openapi.json"),
        ("https://audio.example:8443/a/tts", "/a/tts/openapi.json"),
        ("http://[::1]:81/tts", "/tts/openapi.json"),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/mounted"])
async def test_urls_are_on_the_public_one_whatever_a_request_says(
    app: FastAPI, public_url: str, docs: str, root_path: str
) -> None:
    transport = httpx.ASGITransport(app, root_path=root_path)
    headers = {
        "Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
    }
    async with httpx.AsyncClient(
        transport=transport, base_url=f"http://test{root_path}", headers=headers
    ) as client:
        where = (await client.get("/where")).json()
        redirect = await client.get("/where/")
        page = await client.get("/docs")

    assert where["base"] == f"{public_url}/"
    assert redirect.headers["location"] == f"{public_url}/where"
    assert f"'{docs}'" in page.text
