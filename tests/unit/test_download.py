"""A download whose source fails half way, through a real HTTP server."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator

import httpx
import pytest
import uvicorn
from ray.exceptions import TaskCancelledError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message

from sa_ray.errors import InfrastructureError, ObjectStoreError
from sa_ray.serving.ingress.routes.job_audio import Download


async def half(_: Request) -> Download:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"half"
        raise ObjectStoreError("The object is gone.")

    return Download(body(), headers={"Content-Length": "8"})


async def read(url: str, received: bytearray) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url) as answer:
        async for chunk in answer.aiter_raw():
            received += chunk


async def test_the_client_notices_and_the_log_has_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Starlette(routes=[Route("/", half)])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening, caplog.at_level(logging.INFO):
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        with pytest.raises(httpx.RemoteProtocolError):
            await read(f"http://127.0.0.1:{listening.getsockname()[1]}/", received)
        server.should_exit = True
        await serving

    assert received == b"half"
    assert [one.message for one in caplog.records if "gone" in one.message] == [
        "a download broke off: The object is gone."
    ]
    assert not any(one.exc_info for one in caplog.records)


async def test_a_client_that_has_left_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"half"
        raise InfrastructureError("Cancelled.") from TaskCancelledError()

    async def send(_: Message) -> None:
        pass

    await Download(body()).stream_response(send)

    assert caplog.records == []
