"""Settings of the edge: the address, the names and the web pages that the service answers to."""

import re
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_settings import NoDecode

from sa_ray.settings.group import SettingsGroup
from sa_ray.settings.values import BaseUrl

CompatibleApi = Literal["openai", "elevenlabs", "vllm-omni", "stability"]

COMPATIBLE_APIS: tuple[CompatibleApi, ...] = get_args(CompatibleApi)
"""Other APIs that are spoken here: see docs/compatible.md."""

NO_API = "none"

_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII)
_ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII)

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Return the origin of ``url`` as browsers write it: in lower case, without a port that is
    its scheme's own."""
    parts = urlsplit(url.lower())
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _listed(value: object) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("give a comma-separated list")
    return [part.strip().lower() for part in parts if part.strip()]


def _hosts(value: object) -> tuple[str, ...]:
    names = _listed(value)
    for name in names:
        if name != "*" and not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no host name: give names alone, without scheme, port and path, such "
                "as audio.example.com or *.example.com, others than ASCII in punycode"
            )
    return tuple(dict.fromkeys(name.removesuffix(".") for name in names))


def _origins(value: object) -> tuple[str, ...]:
    origins = [one.rstrip("/") for one in _listed(value)]
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin: give scheme, host and port alone, such as "
                "https://studio.example.com or http://localhost:3000"
            )
    return tuple(dict.fromkeys(origin_of(origin) for origin in origins))


def _apis(value: object) -> tuple[str, ...]:
    names = _listed(value)
    if names == [NO_API]:
        return ()
    for name in names:
        if name not in COMPATIBLE_APIS:
            raise ValueError(
                f"{name!r} is no API that is spoken here: choose from "
                f"{', '.join(COMPATIBLE_APIS)}, or give {NO_API} alone"
            )
    return tuple(dict.fromkeys(names))


class EdgeSettings(SettingsGroup):
    """Address of the service, and whom it answers."""

    public_url: BaseUrl | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_PUBLIC_URL"),
        description="Address at which clients reach the service, with the path that a proxy takes "
        "away. Set: all URLs in answers and webhook calls are built on it. Unset: in answers on "
        "the address of the request, in webhook calls they are paths.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts)] = Field(
        default_factory=tuple,
        validation_alias=AliasChoices("STABLE_AUDIO_ALLOWED_HOSTS"),
        description="Comma-separated names that requests may have in `Host`, besides IP addresses, "
        "`localhost`, the name of the machine and that of `STABLE_AUDIO_PUBLIC_URL`; others are "
        "answered 421. `*.example.com` is every name under it; `*` is every name, which lets web "
        "pages in by DNS rebinding.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        default_factory=tuple,
        validation_alias=AliasChoices("STABLE_AUDIO_ALLOWED_ORIGINS"),
        description="Comma-separated origins, such as `https://studio.example.com`, of web pages "
        "elsewhere that may use the API (CORS). Pages of all others can submit and delete nothing "
        "(403), and read nothing.",
    )
    compatible_apis: Annotated[tuple[CompatibleApi, ...], NoDecode, BeforeValidator(_apis)] = Field(
        COMPATIBLE_APIS,
        validation_alias=AliasChoices("STABLE_AUDIO_COMPATIBLE_APIS"),
        description="Comma-separated APIs of others whose clients are answered too (see "
        "docs/compatible.md); the paths of those left out are 404. `none`: none of them.",
    )
