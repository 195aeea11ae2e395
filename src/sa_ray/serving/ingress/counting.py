"""Count what the ingress answers, by route and status."""

from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.serving import metrics

METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"})

FOUND: Final = "sa_ray.route"
"""Key of the scope under which outer middleware has the inner one leave the route: those in between
copy the scope."""


class Counted:
    """Outer middleware: counts each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not metrics.ENABLED:
            await self._app(scope, receive, send)
            return
        found: dict[str, str] = scope.get(FOUND, {})

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"]
                metrics.REQUESTS.add(
                    method=method if method in METHODS else metrics.OTHER,
                    route=found.get("route", metrics.OTHER),
                    status=f"{message['status'] // 100}xx",
                )
            await send(message)

        await self._app({**scope, FOUND: found}, receive, count)


class Routed:
    """Innermost middleware: tells the outer ones which route answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or FOUND not in scope:
            await self._app(scope, receive, send)
            return

        async def note(message: Message) -> None:
            # The router has written the route into this very scope.
            route: Any = scope.get("route")
            if message["type"] == "http.response.start" and route is not None:
                scope[FOUND]["route"] = route.path
            await send(message)

        await self._app(scope, receive, note)
