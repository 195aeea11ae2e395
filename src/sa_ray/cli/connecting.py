"""The service that a command talks to."""

from contextlib import suppress
from typing import Final

import httpx

from sa_ray.cli.console import say
from sa_ray.client import Client
from sa_ray.errors import SaRayError

RETRY_S: Final = 120.0
"""How long a service that is busy or away is asked again, seconds: it may be restarting."""

FIRST_ANSWER_S: Final = 5.0
"""How long a service may be silent before that is said, seconds."""


def connect(url: str, retry_s: float = RETRY_S) -> Client:
    """Return a client of the service at ``url``, and say so if nothing answers there yet."""
    address = service_address(url)
    shown = without_password(address)
    try:
        # Another server, or one that refuses, is told of by what is asked next.
        with suppress(SaRayError), Client(
            address, timeout_s=FIRST_ANSWER_S, retry_s=0
        ) as first:  # fmt: skip
            first.health()
    except httpx.TransportError as error:
        say(
            f"{shown} does not answer ({error}): asking again for up to {retry_s:.0f} s. "
            "Ctrl-C ends this.",
            "yellow",
        )
    return Client(address, retry_s=retry_s)


def service_address(text: str) -> str:
    """Return the URL of a service, which may be given without its scheme."""
    return text if "://" in text else f"http://{text}"


def without_password(address: str) -> str:
    """Return the URL as it may be shown, without the user and password that a proxy may want."""
    return str(httpx.URL(address).copy_with(userinfo=b""))
