"""Changes to Serve's configuration of HAProxy, so that it leaves nothing open."""

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from sa_ray.errors import (
    ConfigurationError,
    NotDeployedError,
    SaRayError,
    ServiceLostError,
    UnavailableError,
)

HEAD_S: Final = 10
"""Seconds from a connection, or from the end of an answer's keep-alive, to the end of a head."""

STALL_S: Final = 60
"""Seconds within which a client has to take, or send, something of what is under way."""

MOST_OF_ONE: Final = 1000
"""Connections that one address may have open; a trusted proxy may have any number."""

DRAINED: Final = '"This node is being drained."'
"""In Serve's configuration once the node is to go."""

FRONTEND: Final = r"^frontend http_frontend\n"

RETRY_AFTER_S: Final = 5

SERVICE_LOST: Final = ServiceLostError(
    "The process that worked on this was lost. Look what became of it."
)


def unavailable(retry_after_s: int) -> UnavailableError:
    """Return the error of a service that has no ingress replica."""
    return UnavailableError(
        f"The service is being started or stopped. Try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


ERRORS: Final[tuple[SaRayError, ...]] = (SERVICE_LOST, unavailable(RETRY_AFTER_S))
"""Answers of HAProxy for a replica, where Serve would have a plain 500. Its answers to what
is no HTTP, or comes too slowly, cannot be changed."""

NOT_DEPLOYED: Final = NotDeployedError(
    "No service is deployed at this path, or it is being started. Try again.", retry_after_s=1
)


def trusted_proxies(variables: Mapping[str, str]) -> list[str]:
    """Return the proxies that are believed, as uvicorn reads ``FORWARDED_ALLOW_IPS``."""
    return [one.strip() for one in variables.get("FORWARDED_ALLOW_IPS", "127.0.0.1").split(",")]


def shut(configuration: str, variables: Mapping[str, str]) -> str:
    """Return Serve's ``configuration`` of HAProxy with what it leaves open shut.

    ``variables``: the environment. ``FORWARDED_ALLOW_IPS`` in it names the proxies that may say
    what scheme a client used, as for uvicorn. Raises ``ConfigurationError`` if a line that is to
    be changed is not there, as in another release of Ray.
    """
    text = _replaced(configuration, r"(?<=^    stats socket )(?P<kept>\S+) mode 666", " mode 600")
    errors = _lines(f"http-error {_answer(error)}" for error in ERRORS)
    text = _replaced(text, r"(^    errorfile 50[234] .*\n){3}", errors)
    not_deployed = f"    http-request return {_answer(NOT_DEPLOYED)}"
    text = _replaced(text, r"^    http-request return status 404 .*", not_deployed)
    rules = _lines(_rules(variables, is_drained=DRAINED in text))
    text = _replaced(text, rf"(?P<kept>{FRONTEND}    bind .*\n)", rules)
    # With it, HAProxy does not see a client leave whose body came in another packet than its head.
    text = _replaced(text, r"^    option splice-request\n", "")
    # With it, a process that has been replaced keeps idle connections, and sends what comes on them
    # to the replicas of its time, which may be gone.
    text = _replaced(text, r"^    option idle-close-on-response\n", "")
    # Sections that show everybody the requests, on fixed ports of all addresses.
    text = _replaced(text, r"^listen stats\n(  .*\n)+", "")
    if "RAY_SERVE_HAPROXY_METRICS_PORT" not in variables:
        text = _replaced(text, r"^frontend prometheus\n(    .*\n)+", "")
    if "RAY_SERVE_HAPROXY_LOG_TARGET" not in variables:
        # A datagram for each request, to whoever listens there.
        text = _replaced(text, r"^    log 127\.0\.0\.1:514 .*\n", "")
    return text


def address(configuration: str) -> tuple[str, int]:
    """Return the address and the port that clients come to.

    Raises ``ConfigurationError`` if there is none, as in another release of Ray.
    """
    found = re.search(rf"{FRONTEND}    bind (\S+):(\d+)", configuration, re.MULTILINE)
    if found is None:
        raise ConfigurationError("Serve's configuration of HAProxy says nowhere where to listen.")
    return found[1].strip("[]"), int(found[2])


def unbound(configuration: str) -> str:
    """Return ``configuration`` without the port that clients come to.

    Raises ``ConfigurationError`` if it has none, as in another release of Ray.
    """
    return _replaced(configuration, rf"(?P<kept>{FRONTEND})    bind .*\n", "")


def _replaced(text: str, pattern: str, by: str) -> str:
    """Put ``by`` in the place of what matches, behind its group ``kept``, which stays."""

    def replacement(found: re.Match[str]) -> str:
        return (found.groupdict().get("kept") or "") + by

    changed, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
    if count != 1:
        raise ConfigurationError(
            f"Serve's configuration of HAProxy has nothing like {pattern!r} any more: this release "
            "of Ray is not known. RAY_SERVE_ENABLE_HA_PROXY=0 takes Serve's own proxy."
        )
    return changed


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"    {text}\n" for text in texts)


def _rules(variables: Mapping[str, str], *, is_drained: bool) -> list[str]:
    trusted = trusted_proxies(variables)
    sources = " ".join(filter(_is_address, trusted))
    others = f" !{{ src {sources} }}" if sources else ""
    lines = [
        f"timeout http-request {HEAD_S}s",
        f"timeout client {STALL_S}s",
        # Who opens a connection to have one is no error.
        "option http-ignore-probes",
        "unique-id-format %[uuid()]",
        # Who calls: uvicorn, in the replica, believes it of HAProxy.
        "option forwardfor",
    ]
    if is_drained:
        # Clients that keep their connections are told to find another node.
        lines.append("option httpclose")
    if trusted != ["*"]:
        lines += [
            "stick-table type ipv6 size 100k expire 60s store conn_cur",
            f"tcp-request connection reject if {{ src_conn_cur ge {MOST_OF_ONE} }}{others}",
            "tcp-request connection track-sc0 src",
            f"http-request del-header X-Forwarded-Proto{' if' * bool(others)}{others}",
        ]
    return lines


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _answer(error: SaRayError) -> str:
    """Return the arguments by which HAProxy answers with ``error`` in the shape of all errors."""
    told = {"code": error.code, "message": error.message, "param": None, "request_id": "ID"}
    body = json.dumps({"error": told}).replace("%", "%%").replace('"ID"', '"%[unique-id]"')
    headers = ' hdr X-Request-Id "%[unique-id]"'
    if error.retry_after_s is not None:
        headers += f" hdr Retry-After {error.retry_after_s}"
    quoted = body.replace("'", r"'\''")
    return f"status {error.status} content-type application/json lf-string '{quoted}'{headers}"
