"""Who calls, where HAProxy stands in front of Serve."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import ray
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from sa_ray.serving.client_address import TOLD, host_of, is_loopback
from sa_ray.serving.haproxy_rules import trusted_proxies

logger = logging.getLogger(__name__)

FORWARDED_FOR = b"x-forwarded-for"

NODES_S = 10.0
"""Seconds for which it is believed which nodes there are."""

PATIENCE_S = 1.0
"""Longest wait for Ray to say which there are: requests go on while it is silent."""

LOOPBACK = ("127.0.0.0/8", "::1")
"""From where the HAProxy of this machine calls, and clients on it."""


class BehindHAProxy:
    """Middleware that takes HAProxy's word for who called it, and leaves no trace of HAProxy.

    Any node of the cluster is believed, and the proxies of ``FORWARDED_ALLOW_IPS`` behind them. A
    request that no other proxy passed on goes on without ``X-Forwarded-For``.
    """

    def __init__(
        self,
        app: ASGIApp,
        nodes: Callable[[], Iterable[Mapping[str, Any]]] = ray.nodes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._nodes = nodes
        self._clock = clock
        self._ask_at = clock()
        self._asking: asyncio.Task[None] | None = None
        self._of_nodes: frozenset[str] = frozenset()
        self._trusting = self._trusting_nodes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and await self._is_node(host_of(scope)):
            await self._trusting({**scope, TOLD: True}, receive, send)
        else:
            await self._without_haproxy(scope, receive, send)

    async def _is_node(self, host: str) -> bool:
        if is_loopback(host):
            return True
        if self._clock() >= self._ask_at:
            self._ask_at = self._clock() + NODES_S
            self._asking = asyncio.create_task(self._ask())
        if self._asking is not None and not self._asking.done() and host not in self._of_nodes:
            await asyncio.wait({self._asking}, timeout=PATIENCE_S)
        return host in self._of_nodes

    async def _ask(self) -> None:
        try:
            found = await asyncio.to_thread(self._nodes)
        except Exception as error:  # noqa: BLE001 - no answer must not fail the request
            logger.warning("asking Ray for its nodes failed: %s", error)
            return
        self._of_nodes = frozenset(one["NodeManagerAddress"] for one in found if one["Alive"])
        self._trusting = self._trusting_nodes()

    def _trusting_nodes(self) -> ASGIApp:
        proxies = trusted_proxies(os.environ)
        hosts = proxies if proxies == ["*"] else [*LOOPBACK, *self._of_nodes, *proxies]
        return cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, self._without_haproxy), hosts))

    async def _without_haproxy(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = list(scope.get("headers", ()))
        told = [at for at, (name, _) in enumerate(headers) if name == FORWARDED_FOR]
        if told:
            del headers[told[-1]]  # HAProxy adds its own behind all others
            scope = {**scope, "headers": headers}
        elif TOLD in scope:
            scope = {**scope, TOLD: False}
        await self._app(scope, receive, send)
