"""Call a client's webhook, signed as https://www.standardwebhooks.com describes.

The address comes from a client, and the call from inside the operator's network. So the host is
resolved once, its addresses are judged, and the connection goes to the very address that was
judged. A name that resolves otherwise a moment later gains nothing.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
from pydantic import BaseModel
from standardwebhooks import Webhook

from sa_ray.contracts import JobView
from sa_ray.jobs.host_lookups import HostLookups
from sa_ray.jobs.public_addresses import is_metadata, is_public
from sa_ray.jobs.webhook_secrets import UnopenableError, WebhookSecrets
from sa_ray.jobs.webhook_urls import host_name, webhook_url

TIMEOUT_S = 10.0
"""Seconds for the whole attempt, from looking up the host to the end of the answer."""

MAX_ANSWER_BYTES = 65_536
"""Most bytes read of an answer's body, so that the connection ends in good order; none is used."""


class WebhookError(Exception):
    """The receiver was not reached or did not take the call; the text tells its operator why.

    ``answered``: whether the receiver answered the call, or was not to be called at all.
    """

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


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

    ``allow_private``: also call addresses inside networks (loopback, private, link-local ...), but
    never those where clouds tell secrets. ``authorities``: certificates in PEM of authorities to
    trust besides the public ones.
    """

    def __init__(
        self,
        secrets: WebhookSecrets,
        *,
        allow_private: bool = False,
        authorities: str | None = None,
        lookups: HostLookups | None = None,
    ) -> None:
        self._secrets = secrets
        self._allow_private = allow_private
        self._lookups = lookups or HostLookups()
        verify = httpx.create_ssl_context(trust_env=False)
        if authorities:
            verify.load_verify_locations(cadata=authorities)
        # Keep out proxies and a .netrc of the environment.
        self._client = httpx.AsyncClient(
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def send(self, url: str, message_id: str, body: str, sealed: str | None = None) -> None:
        """Make one attempt. Raises ``WebhookError`` unless the answer is 2xx in time.

        ``message_id`` is the same for every attempt, so that the receiver can recognise repeats.
        ``sealed``: the secrets that sign it instead of the operator's.
        """
        secrets = self._opened(url, sealed) if sealed else self._secrets.own
        now = datetime.now(UTC)
        signed = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": _signatures(secrets, message_id, now, body),
        }
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._send(webhook_url(url), signed, body)
        except ValueError as error:
            raise WebhookError(f"The address {error}.", answered=True) from error
        except TimeoutError:
            raise WebhookError(f"No answer within {TIMEOUT_S:g} seconds.") from None
        except httpx.HTTPError as error:
            raise WebhookError(f"{type(error).__name__}: {error}") from error
        if 300 <= status < 400:
            raise WebhookError(f"HTTP {status}: redirects are not followed.", answered=True)
        if not 200 <= status < 300:
            raise WebhookError(f"HTTP {status}.", answered=True)

    async def close(self) -> None:
        await self._client.aclose()
        self._lookups.close()

    def _opened(self, url: str, sealed: str) -> tuple[str, ...]:
        try:
            return self._secrets.opened(url, sealed)
        except UnopenableError:
            raise WebhookError(
                "The receiver's own secret cannot be read: it was sealed under another "
                "STABLE_AUDIO_WEBHOOK_SECRET. Put that one behind a comma after the present one.",
                answered=True,
            ) from None

    async def _send(self, url: httpx.URL, signed: dict[str, str], body: str) -> int:
        addresses = await self._resolve(host_name(url))
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "sa-ray",
            **signed,
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
        name = {"sni_hostname": host_name(url)}
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

    async def _resolve(self, host: str) -> list[str]:
        """Return the addresses of ``host``, all of which may be called."""
        try:
            addresses = await self._lookups.addresses(host)
        except (OSError, UnicodeError) as error:
            raise WebhookError(f"The host {host} cannot be resolved: {_reason(error)}.") from error
        if not addresses:
            raise WebhookError(f"The host {host} has no address.")
        if any(map(is_metadata, addresses)):
            raise WebhookError(
                f"The host {host} has an address at which clouds tell secrets; it is never called.",
                answered=True,
            )
        if not self._allow_private and not all(map(is_public, addresses)):
            raise WebhookError(
                f"The host {host} has an address that is not public; set "
                "STABLE_AUDIO_WEBHOOK_ALLOW_PRIVATE to call it.",
                answered=True,
            )
        return addresses


def _signatures(secrets: Sequence[str], message_id: str, now: datetime, body: str) -> str:
    return " ".join(Webhook(secret).sign(message_id, now, body) for secret in secrets)


def _reason(error: OSError | UnicodeError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
