"""ASGI applications behind a real HTTP server, of the kind that Serve's proxy is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.types import ASGIApp


@asynccontextmanager
async def served(app: ASGIApp, *, timeout_keep_alive: int = 5) -> AsyncIterator[int]:
    """The port of a server of ``app``. ``timeout_keep_alive``: seconds, as of uvicorn."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=timeout_keep_alive,
    )
    server = uvicorn.Server(config)
    with suppress(asyncio.CancelledError):
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
            await serving
