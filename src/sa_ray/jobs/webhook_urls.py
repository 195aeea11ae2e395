"""Read the address of a webhook: one rule for accepting it and for calling it."""

import ipaddress
import re
from urllib.parse import urlsplit

import httpx

MAX_HOST_CHARS = 253
MAX_LABEL_CHARS = 63
"""Limits of host names and of their parts (RFC 1035, section 2.3.4)."""

_NEVER_IN_URLS = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_LABEL = re.compile(r"[A-Za-z0-9_-]+")
_ENCODED = "xn--"


def webhook_url(text: str) -> httpx.URL:
    """Return the URL to call. Raises ``ValueError`` that says why it can never be reached."""
    if found := _NEVER_IN_URLS.search(text):
        raise ValueError(f"holds {found[0]!r}, which no URL may; percent-encode it")
    try:
        url = httpx.URL(text)
        netloc = urlsplit(text).netloc
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError("is not an absolute http:// or https:// URL")
    if netloc.endswith(":"):
        raise ValueError("has a colon without a port; leave the colon out")
    if url.port is not None and not 0 < url.port < 65_536:
        raise ValueError(f"has the port {url.port}; ports are 1 to 65535")
    host = host_name(url)
    if "%" in host and ":" in host:
        raise ValueError("names a network interface behind its address; leave the % and that out")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        _check_name(host)
    return url


def host_name(url: httpx.URL) -> str:
    """Return the host in ASCII, without the dot that may end a name: it changes no meaning here,
    and certificates never have it."""
    return url.raw_host.decode("ascii").strip("[]").removesuffix(".")


def _check_name(host: str) -> None:
    if len(host) > MAX_HOST_CHARS:
        raise ValueError(
            f"has a host of {len(host)} characters; {MAX_HOST_CHARS} are the most a name can have"
        )
    for label in host.split("."):
        if not label:
            raise ValueError(f"has the host {host!r}, with nothing between two dots")
        if len(label) > MAX_LABEL_CHARS:
            raise ValueError(
                f"has {len(label)} characters between two dots of its host; {MAX_LABEL_CHARS} are "
                "the most"
            )
        if not _LABEL.fullmatch(label):
            raise ValueError(f"has {label!r} in its host, which no host name can have")
        if label.lower().startswith(_ENCODED) and not _is_punycode(label[len(_ENCODED) :]):
            raise ValueError(f"has {label!r} in its host, which encodes no name (punycode)")


def _is_punycode(text: str) -> bool:
    try:
        name = text.lower().encode("ascii").decode("punycode")
        return (
            name.isprintable()
            and not name.isascii()
            and name.encode("punycode").decode("ascii") == text.lower()
        )
    except UnicodeError:
        return False
