"""Tell addresses of the public internet from those inside networks, by tables of our own.

What ``ipaddress`` calls global has changed with releases of Python, and knows no cloud.
"""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, Oracle, DigitalOcean, OpenStack and others
            "169.254.170.2",  # AWS: credentials of ECS tasks
            "169.254.170.23",  # AWS: credentials of EKS pods
            "169.254.0.23",  # Tencent
            "169.254.42.42",  # Scaleway
            "168.63.129.16",  # Azure: the host's agent
            "192.0.0.192",  # Oracle Cloud Classic
            "100.100.100.200",  # Alibaba
            "fd00:ec2::254",  # AWS
            "fd00:ec2::23",  # AWS: credentials of EKS pods
            "fd00:42::42",  # Scaleway
            "fd20:ce::254",  # Google
            "fd00:c1::a9fe:a9fe",  # Oracle
            "fe80::a9fe:a9fe",  # OpenStack
        ),
    )
)
"""Services of clouds that tell their machines secrets."""

_REFUSED_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared with the provider
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure: public by its number, and inside every network there
            "169.254.0.0/16",  # link-local
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
"""Of https://www.iana.org/assignments/iana-ipv4-special-registry, what is not global."""

_UNICAST_V6 = IPv6Network("2000::/3")
"""All that is given out for the internet. Outside: loopback, mapped and translated IPv4,
link-local, site-local, unique local, multicast, reserved."""

_REFUSED_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID ...
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
        ),
    )
)
"""Of https://www.iana.org/assignments/iana-ipv6-special-registry, what is not global there."""

_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
"""Addresses that stand for the IPv4 address in their last 32 bits (RFC 4291, RFC 6052)."""

_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
"""The same for a network's own gateways, which choose the length of the prefix (RFC 8215)."""

_6TO4 = IPv6Network("2002::/16")
"""Addresses that stand for the IPv4 address in the 32 bits that follow (RFC 3056)."""

_NOWHERE = IPv4Network("0.0.0.0/8")


def is_public(address: str) -> bool:
    """Return whether an IP address can only be a host of the public internet.

    Not private, loopback, link-local, site-local, shared, reserved, multicast, unspecified, or of a
    cloud's own services. An IPv6 form of an IPv4 address (mapped, 6to4, NAT64) is judged by that.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, IPv4Address):
        return _is_public_v4(ip)
    inner = _inner(ip)
    if ip in _LOCAL_NAT64:
        # Which of these its gateway reads is not known; the wrong ones often read as 0.x.y.z.
        inner = [each for each in inner if each not in _NOWHERE]
    if inner or ip in _LOCAL_NAT64:
        return bool(inner) and all(map(_is_public_v4, inner))
    return ip in _UNICAST_V6 and not any(ip in network for network in _REFUSED_V6)


def is_metadata(address: str) -> bool:
    """Return whether a cloud's machines may be told secrets at an IP address, in any form of it."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip in METADATA
    # Without its scope: fe80::1%eth0 is not equal to fe80::1.
    return not METADATA.isdisjoint([IPv6Address(int(ip)), *_inner(ip)])


def _is_public_v4(ip: IPv4Address) -> bool:
    return not any(ip in network for network in _REFUSED_V4)


def _inner(ip: IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that ``ip`` may stand for."""
    if ip in _MAPPED or ip in _NAT64:
        return [IPv4Address(ip.packed[12:])]
    if ip in _6TO4:
        return [IPv4Address(ip.packed[2:6])]
    return _local_nat64(ip) if ip in _LOCAL_NAT64 else []


def _local_nat64(ip: IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 address in ``ip`` for each length of prefix: 48, 56, 64 and 96 bits.

    Bits 64 to 71 are not part of it (RFC 6052, section 2.2).
    """
    octets = ip.packed
    without_gap = octets[:8] + octets[9:]
    return [IPv4Address(without_gap[start : start + 4]) for start in (6, 7, 8)] + [
        IPv4Address(octets[12:])
    ]
