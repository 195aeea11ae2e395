"""Tell who calls, by the key or the address, before anything of a request's body is read."""

import re
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sa_ray.access import Keyring
from sa_ray.contracts.access import ANYBODY, NOBODY, Caller
from sa_ray.errors import (
    AnonymousRefusedError,
    InvalidKeyError,
    MissingScopeError,
    NotFoundError,
    SaRayError,
)
from sa_ray.serving.client_address import is_local
from sa_ray.serving.ingress.audit import Refusals
from sa_ray.serving.ingress.errors import error_response
from sa_ray.serving.ingress.route_scopes import Need, needed_for

CALLER: Final = "sa_ray.caller"
"""Key of the scope under which the outermost middleware leaves the caller."""

KEYRING: Final = "sa_ray.keyring"
"""Key of the scope under which it leaves the keys."""

AUTHORIZATION: Final = b"authorization"
OTHER_HEADER: Final = b"xi-api-key"
"""Header in which clients of ElevenLabs send their key."""

CREDENTIALS: Final = frozenset({AUTHORIZATION, OTHER_HEADER})

BEARER: Final = b"bearer "

SIGNED: Final = re.compile(r"/jobs/[^/]+/audio")
"""Matches paths of links that may be signed."""

UNKNOWN: Final = "?"
"""Who was refused, in the audit log: no key can have that name."""


def caller_of(http: HTTPConnection) -> Caller:
    """Return the caller, whose key has been checked."""
    found: Any = http.scope.get(CALLER, ANYBODY)
    return found  # type: ignore[no-any-return]


def caller_now(http: HTTPConnection) -> Caller:
    """Return the caller as of now, for answers that take long.

    Raises ``InvalidKeyError`` if the key was revoked since.
    """
    caller = caller_of(http)
    keyring: Keyring | None = http.scope.get(KEYRING)
    if keyring is None or not caller.name:
        return caller
    now = keyring.caller(caller.name)
    if now is None:
        raise no_caller()
    return now


class Authentication:
    """Middleware that finds the caller of each request, and refuses those that may not.

    The key goes no further. Without keys, only clients on this machine are answered, unless all are
    to be (``allow_anonymous``).
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, *, allow_anonymous: bool) -> None:
        self._app = app
        self._keyring = keyring
        self._allow_anonymous = allow_anonymous
        self._refusals = Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        need = needed_for(scope["method"], _path(scope))
        caller = self._caller(scope)
        if need == "nothing" or (caller is None and _is_signed(scope)):
            caller = caller or NOBODY
        error = self._refusal(need, caller)
        if error is None:
            kept = [header for header in scope["headers"] if header[0] not in CREDENTIALS]
            told = {"headers": kept, CALLER: caller, KEYRING: self._keyring}
            await self._app({**scope, **told}, receive, send)
            return
        http = Request(scope)
        self._refusals.log(http, caller.name if caller else UNKNOWN, error.code)
        response = error_response(error, http)
        if error.status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller | None:
        """Return the caller; None for one without a valid key, or who needs one."""
        if self._keyring.has_keys:
            return self._keyring.caller_with(_key_in(scope))
        return ANYBODY if self._allow_anonymous or is_local(scope) else None

    def _refusal(self, need: Need | None, caller: Caller | None) -> SaRayError | None:
        if need == "nothing" or caller is NOBODY:
            return None
        if caller is None:
            return no_caller() if self._keyring.has_keys else _not_local()
        if need == "any key" or caller.may(need or "admin"):
            return None
        if need is None:
            return NotFoundError("There is nothing for this key. GET /docs lists what there is.")
        return MissingScopeError(
            f"The key {caller.name} has not the scope {need}, which this needs; it has "
            f"{', '.join(sorted(caller.scopes))}. Use another key, or have the scope added."
        )


def _is_signed(scope: Scope) -> bool:
    """Return whether the request has a link's signature, which its route checks."""
    is_read = scope["method"] in ("GET", "HEAD") and SIGNED.fullmatch(_path(scope)) is not None
    return is_read and b"signature=" in scope.get("query_string", b"")


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).rstrip("/") or "/"


def _key_in(scope: Scope) -> bytes:
    """Return the key that was sent; empty, which is nobody's, if there is none."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    told = headers.get(AUTHORIZATION, b"")
    if told[: len(BEARER)].lower() == BEARER:
        return told[len(BEARER) :].strip()
    return headers.get(OTHER_HEADER, b"").strip()


def no_caller() -> InvalidKeyError:
    """Return the error for a request without a valid key."""
    return InvalidKeyError(
        "This needs a valid key: send it in the header `Authorization: Bearer KEY`, or in "
        "`xi-api-key`."
    )


def _not_local() -> AnonymousRefusedError:
    return AnonymousRefusedError(
        "This service has no keys, and without them it answers clients on its own machine only. "
        "Its operator lets in those with a key by STABLE_AUDIO_API_KEYS_FILE, or, where only "
        "trusted clients can reach it, everybody by STABLE_AUDIO_ALLOW_ANONYMOUS=true."
    )
