"""Call a client's webhook, signed as https://www.standardwebhooks.com describes.

The address comes from a client, and the call from inside the operator's network. So the host is
resolved once, its addresses are judged, and the connection goes to the very address that was
judged. A name that resolves otherwise a moment later gains nothing.
"""

import asyncio
import ipaddress
import socket
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import BaseModel
from standardwebhooks import Webhook

from sa_ray.contracts import JobView

TIMEOUT_S = 10.0
"""Seconds for the whole attempt, from looking up the host to the end of the answer."""

MAX_ANSWER_BYTES = 65_536
"""Most bytes read of an answer's body, so that the connection ends in good order; none is used."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses that a gateway turns into IPv4 ones (RFC 6052)."""


class WebhookError(Exception):
    """The receiver was not reached or did not take the call; the text tells its operator why."""


class WebhookEvent(BaseModel):
    """The body of a call: ``type`` is ``job.succeeded``, ``job.failed`` or ``job.cancelled``."""

    type: str
    timestamp: datetime
    """Time at which the job ended."""
    data: JobView


def job_event(job: JobView) -> str:
    """Return the JSON to send for an ended job."""
    ended = job.completed_at or datetime.now(UTC)
    return WebhookEvent(type=f"job.{job.status}", timestamp=ended, data=job).model_dump_json()


class WebhookSender:
    """Sends signed webhook calls.

    ``secret``: ``whsec_`` and base64. ``allow_private``: also call addresses inside networks
    (loopback, private, link-local ...). ``verify``: as httpx takes it.
    """

    def __init__(self, secret: str, *, allow_private: bool = False, verify: Any = True) -> None:
        self._signer = Webhook(secret)
        self._allow_private = allow_private
        # Keep out proxies and a .netrc of the environment.
        self._client = httpx.AsyncClient(
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def send(self, url: str, message_id: str, body: str) -> None:
        """Make one attempt. Raises ``WebhookError`` unless the answer is 2xx in time.

        ``message_id`` is the same for every attempt, so that the receiver can recognise repeats.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._send(httpx.URL(url), message_id, body)
        except TimeoutError:
            raise WebhookError(f"No answer within {TIMEOUT_S:g} seconds.") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise WebhookError(f"{type(error).__name__}: {error}") from error
        if 300 <= status < 400:
            raise WebhookError(f"HTTP {status}: redirects are not followed.")
        if not 200 <= status < 300:
            raise WebhookError(f"HTTP {status}.")

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(self, url: httpx.URL, message_id: str, body: str) -> int:
        addresses = await resolve(url, allow_private=self._allow_private)
        now = datetime.now(UTC)
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "sa-ray",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(message_id, now, body),
        }
        *others, last = addresses
        for address in others:
            try:
                return await self._post(url, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._post(url, last, headers, body)

    async def _post(self, url: httpx.URL, address: str, headers: dict[str, str], body: str) -> int:
        # The certificate must be that of the name, though the connection goes to the address.
        name = {"sni_hostname": url.raw_host.decode("ascii")}
        request = self._client.build_request(
            "POST", url.copy_with(host=address), headers=headers, content=body, extensions=name
        )
        answer = await self._client.send(request, stream=True)
        try:
            received = 0
            async for chunk in answer.aiter_raw():
                received += len(chunk)
                if received > MAX_ANSWER_BYTES:
                    break
        finally:
            await answer.aclose()
        return answer.status_code


async def resolve(url: httpx.URL, *, allow_private: bool) -> list[str]:
    """Return the IP addresses of the URL's host.

    Raises ``WebhookError`` if there is none, or if one is not public, unless ``allow_private``.
    """
    if url.scheme not in ("http", "https") or not url.host:
        raise WebhookError("The address is not an absolute http:// or https:// URL.")
    port = url.port or (443 if url.scheme == "https" else 80)
    host = url.raw_host.decode("ascii").strip("[]")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise WebhookError(f"The host {host} cannot be resolved: {error.strerror}.") from error
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    if not addresses:
        raise WebhookError(f"The host {host} has no address.")
    if not allow_private and not all(is_public(address) for address in addresses):
        raise WebhookError(
            f"The host {host} has an address that is not public; set "
            "STABLE_AUDIO_WEBHOOK_ALLOW_PRIVATE to call it."
        )
    return addresses


def is_public(address: str) -> bool:
    """Return whether an IP address can only be a host of the public internet.

    Not private, loopback, link-local, shared, reserved, multicast or unspecified, nor an IPv6 form
    of such an address (mapped, 6to4, Teredo, NAT64).
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
        if not all(is_public(str(each)) for each in inner if each is not None):
            return False
        if ip.ipv4_mapped is not None:
            return True
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)
