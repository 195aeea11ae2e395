"""Keep web pages of others out: by the name that was called, and by the page that calls.

A page in a browser on this machine, or inside the network, reaches the service as its user does. By
DNS rebinding, its own name comes to stand for the service's address, and the browser takes the two
for one: then `Host` is that name.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.errors import ForeignOriginError, MisdirectedRequestError, SaRayError
from sa_ray.serving.ingress.errors import error_response
from sa_ray.settings import EdgeSettings
from sa_ray.settings.edge import origin_of

CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})

HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{0,5})?", re.ASCII | re.IGNORECASE)

MAX_SHOWN = 100
"""Characters of a header that an error repeats."""


class Origins:
    """Outermost middleware: answers names of this service only, and takes no change from pages of
    other origins.

    Cookies end here: nothing reads them, and to parse a hostile one takes Python seconds (before
    3.11.10 and 3.12.6, CVE-2024-7592). Pages that it serves, as ``/docs``, cannot be framed: clicks
    in them would count as their user's.
    """

    def __init__(self, app: ASGIApp, edge: EdgeSettings) -> None:
        self._app = app
        self._trusted = set(edge.allowed_origins)
        names = {"localhost", socket.gethostname().lower(), *edge.allowed_hosts}
        if edge.public_url:
            self._trusted.add(origin_of(edge.public_url))
            names.add(urlsplit(edge.public_url).hostname or "")
        self._names = names
        self._domains = (".localhost", *_domains(edge.allowed_hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers.getlist("host"))
            if scope["method"] not in CHANGES_NOTHING:
                self._check_origin(headers)
        except SaRayError as error:
            await error_response(error, Request(scope))(scope, receive, send)
            return
        kept = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
        await self._app({**scope, "headers": kept}, receive, _unframed(send))

    def _check_host(self, hosts: list[str]) -> None:
        if not hosts:
            return  # a client of HTTP/1.0, so no browser
        name = _name(hosts[0]) if len(hosts) == 1 else None
        if name is None:
            raise MisdirectedRequestError(
                "The header `Host` is not one name or address, with or without a port."
            )
        if "*" in self._names or name in self._names or name.endswith(self._domains):
            return
        if not _is_address(name):
            raise MisdirectedRequestError(
                f"This service does not answer to the name {name[:MAX_SHOWN]}. Call it by an IP "
                "address or as localhost, or have the name added to STABLE_AUDIO_ALLOWED_HOSTS."
            )

    def _check_origin(self, headers: Headers) -> None:
        """Let pass what no browser sent, and what a page of the service's own did.

        ``Sec-Fetch-Site`` is the browser's own word, also where a proxy has changed ``Host``; not
        all send it, and none to a plain http:// address of another machine.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._trusted or site in ("same-origin", "none"):
            return
        if site is None and (origin is None or _is_of(origin, headers.get("host", ""))):
            return
        raise ForeignOriginError(
            f"A web page of another origin ({(origin or site or '')[:MAX_SHOWN]}) may not change "
            "anything here. If it is yours, have its origin added to STABLE_AUDIO_ALLOWED_ORIGINS."
        )


def _unframed(send: Send) -> Send:
    async def send_unframed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith("text/html"):
                headers.setdefault("content-security-policy", "frame-ancestors 'none'")
        await send(message)

    return send_unframed


def _domains(hosts: Iterable[str]) -> list[str]:
    return [host[1:] for host in hosts if host.startswith("*.")]


def _name(host: str) -> str | None:
    found = HOST.fullmatch(host)
    return found["name"].lower().rstrip(".") if found else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_of(origin: str, host: str) -> bool:
    """Return whether a page of ``origin`` came from ``host``. Which of http and https the client
    used is not known behind a proxy that ends TLS."""
    scheme = origin.partition("://")[0]
    try:
        return scheme in ("http", "https") and origin_of(f"{scheme}://{host}") == origin_of(origin)
    except ValueError:  # a port that is none
        return False
