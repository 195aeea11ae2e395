"""Tell addresses of the public internet from those inside networks."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses that a gateway turns into the IPv4 address in their last 32 bits (RFC 6052)."""

_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
"""The same for a network's own gateways, which choose the length of the prefix (RFC 8215)."""

_NOWHERE = ipaddress.IPv4Network("0.0.0.0/8")


def is_public(address: str) -> bool:
    """Return whether an IP address can only be a host of the public internet.

    Not private, loopback, link-local, site-local, shared, reserved, multicast or unspecified. An
    IPv6 form of an IPv4 address (mapped, 6to4, Teredo, NAT64) is judged by that address.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, IPv4Address):
        return _is_public(ip)
    if ip.ipv4_mapped is not None:
        return _is_public(ip.ipv4_mapped)
    if ip in _NAT64:
        return _is_public(IPv4Address(int(ip) & 0xFFFF_FFFF))
    if ip in _LOCAL_NAT64:
        # Which of these its gateway reads is not known; the wrong ones often read as 0.x.y.z.
        read = [each for each in _local_nat64(ip) if each not in _NOWHERE]
        return bool(read) and all(map(_is_public, read))
    inner = [each for each in (ip.sixtofour, *(ip.teredo or ())) if each is not None]
    return not ip.is_site_local and _is_public(ip) and all(map(_is_public, inner))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _local_nat64(ip: IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 address in ``ip`` for each length of prefix: 48, 56, 64 and 96 bits.

    Bits 64 to 71 are not part of it (RFC 6052, section 2.2).
    """
    octets = ip.packed
    without_gap = octets[:8] + octets[9:]
    return [IPv4Address(without_gap[start : start + 4]) for start in (6, 7, 8)] + [
        IPv4Address(octets[12:])
    ]
