"""A span for each request, in the trace of its client if that has one."""

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.serving.ingress.counting import FOUND, METHODS
from sa_ray.telemetry import current_traceparent, is_tracing, span

TRACEPARENT: Final = "traceparent"


class Traced:
    """Outermost middleware: takes ``traceparent``, and gives that of its span with the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_tracing():
            await self._app(scope, receive, send)
            return
        found: dict[str, str] = {}
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
        with span(method, _parent(scope), attributes, "server") as here:

            async def tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    MutableHeaders(scope=message)[TRACEPARENT] = current_traceparent() or ""
                    if here is not None:
                        here.set_attribute("http.response.status_code", message["status"])
                        if route := found.get("route"):
                            here.set_attribute("http.route", route)
                            here.update_name(f"{method} {route}")
                await send(message)

            await self._app({**scope, FOUND: found}, receive, tell)


def _parent(scope: Scope) -> str | None:
    """Return the client's span; several are none, as W3C has it."""
    told = Headers(scope=scope).getlist(TRACEPARENT)
    return told[0] if len(told) == 1 else None
