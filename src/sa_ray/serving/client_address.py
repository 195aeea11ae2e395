"""Where a request comes from."""

import os
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

FORWARDING = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"}
)
"""Headers of proxies, by which a request that one passed on is told from one of this machine."""


TOLD = "sa_ray.told_by_haproxy"
"""Key in a scope: whether HAProxy has told from where the request comes."""

HIDDEN = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
"""Whether HAProxy stands in front of Serve: what it does not tell of then comes from anywhere."""


def address_of(scope: Scope) -> str:
    """Return the address that requests are counted by; of IPv6 the network, as a client has many.

    The server has taken it from ``X-Forwarded-For`` if it trusts who sent that.
    """
    address = _read(host_of(scope))
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), 64), strict=False))
    return str(address or "")


def is_local(scope: Scope) -> bool:
    """Return whether the request comes from this machine, passed on by no proxy that says so."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    if (HIDDEN and not scope.get(TOLD)) or any(name in FORWARDING for name, _ in headers):
        return False
    return is_loopback(host_of(scope))


def host_of(scope: Scope) -> str:
    """Return the address of the client as the server has it; empty, if it has none."""
    host: str = (scope.get("client") or ("",))[0]
    return host


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is an address that only this machine has."""
    address = _read(host)
    return address is not None and address.is_loopback


def _read(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
