"""Refuse a key's requests over its limits, before their bodies are read, and tell what is left."""

from contextlib import ExitStack
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.access import Allowance, RequestAllowances
from sa_ray.contracts.access import Caller
from sa_ray.errors import RateLimitedError
from sa_ray.serving.ingress.audit import Refusals
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import error_response
from sa_ray.serving.proxy_downloads import goes_on

WINDOW_S: Final = 60

POLICY: Final = "RateLimit-Policy"
LIMIT: Final = "RateLimit"
"""Headers of draft-ietf-httpapi-ratelimit-headers-11."""


class RateLimits:
    """Middleware behind ``Authentication``."""

    def __init__(self, app: ASGIApp, allowances: RequestAllowances) -> None:
        self._app = app
        self._allowances = allowances
        self._refusals = Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A download is one request, in however many pieces it is fetched.
        if scope["type"] != "http" or goes_on(scope):
            await self._app(scope, receive, send)
            return
        http = Request(scope)
        caller = caller_of(http)
        left: Allowance | None = None
        with ExitStack() as under_way:
            try:
                left = await self._allowances.take(caller)
                under_way.enter_context(self._allowances.one_more(caller))
            except RateLimitedError as error:
                self._refusals.log(http, caller.name, error.code)
                told = _telling(left or _used_up(caller, error), send)
                await error_response(error, http)(scope, receive, told)
                return
            await self._app(scope, receive, send if left is None else _telling(left, send))


def _used_up(caller: Caller, error: RateLimitedError) -> Allowance:
    return Allowance(caller.limits.requests_per_minute or 0, 0, error.retry_after_s or 1)


def _telling(left: Allowance, send: Send) -> Send:
    """Return ``send`` with the fields that say what is left of the minute."""

    async def send_told(message: Message) -> None:
        if message["type"] == "http.response.start" and left.limit:  # else none is counted
            headers = MutableHeaders(scope=message)
            headers[POLICY] = f'"requests";q={left.limit};w={WINDOW_S}'
            headers[LIMIT] = f'"requests";r={left.left};t={left.seconds}'
        await send(message)

    return send_told
