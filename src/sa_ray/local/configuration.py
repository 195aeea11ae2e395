"""Find, check and render ``serve_config.yaml``, for another address and other settings."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from sa_ray.access import read_keys
from sa_ray.catalogue import VARIANTS
from sa_ray.engines import resolve_engine_name
from sa_ray.errors import ConfigurationError
from sa_ray.jobs import check_job_store_url
from sa_ray.settings import Settings, load_settings

CONFIG_NAME = "serve_config.yaml"
IMPORT_PATH = "sa_ray.app:build"

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
"""Where to ask a service that listens on every address."""


class Configuration:
    """``serve_config.yaml`` of the working directory, or else the one that ships in the package.

    With another address, and ``args`` laid over those of this service, ``options`` over those of
    each of its deployments; other applications in it stay as they are. Raises
    ``ConfigurationError`` if it cannot be served.
    """

    def __init__(
        self,
        host: str,
        port: int,
        args: Mapping[str, Any],
        source: Path | None = None,
        *,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        source = source or find_config()
        self._host = host
        self._port = port
        self._document = _read(source)
        http = self._document.get("http_options") or {}
        self._document["http_options"] = {**http, "host": host, "port": port}
        for application in self._ours:
            application["args"] = {**(application.get("args") or {}), **args}
            if options:
                _overlay(application, options)

    @property
    def text(self) -> str:
        """The YAML of all of it."""
        return yaml.safe_dump(self._document, sort_keys=False)

    @property
    def suits_haproxy(self) -> bool:
        """Whether HAProxy can serve it.

        Serve writes no TLS and no IPv6 into its configuration. It has HAProxy reach the replicas at
        127.0.0.1, where they listen if that, or all of IPv4, is what they are told.
        """
        return not self._serves_tls and self._host in ("127.0.0.1", "localhost", "0.0.0.0")  # noqa: S104

    @property
    def _serves_tls(self) -> bool:
        return bool(self._document["http_options"].get("ssl_certfile"))

    @property
    def alive_url(self) -> str:
        """Where Serve's HTTP proxy says that it works."""
        return f"{self._base_url}/-/healthz"

    @property
    def ready_url(self) -> str:
        """Where this service answers as soon as its HTTP ingress works; the proxy, without one."""
        return f"{self.page_url}health" if self.page_url else self.alive_url

    @property
    def page_url(self) -> str | None:
        """Where the page is, seen from this machine. None: it is not among what is served."""
        for application in self._ours:
            prefix = str(application.get("route_prefix") or "/").rstrip("/")
            return f"{self._base_url}{prefix}/"
        return None

    def settings(self) -> Settings:
        """Read the settings as ``build`` will.

        Raises ``ConfigurationError`` for what it would refuse, before anything is started.
        """
        ours = self._ours
        settings = load_settings(ours[0]["args"] if ours else None)
        resolve_engine_name(settings.models.engine)
        check_job_store_url(settings.jobs.jobs_url)
        if keys := settings.access.api_keys_file:
            read_keys(keys.expanduser())
        return settings

    @property
    def _ours(self) -> list[dict[str, Any]]:
        applications = self._document["applications"]
        return [one for one in applications if one.get("import_path") == IMPORT_PATH]

    @property
    def _base_url(self) -> str:
        host = ANY_ADDRESS.get(self._host, self._host)
        scheme = "https" if self._serves_tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}"


def _overlay(application: dict[str, Any], options: Mapping[str, Any]) -> None:
    given = application.get("deployments") or []
    named = {one.get("name") for one in given}
    others = [{"name": name} for name in ("ingress", "dispatcher", *VARIANTS) if name not in named]
    application["deployments"] = [{**one, **options} for one in (*given, *others)]


def find_config() -> Path:
    """``serve_config.yaml`` of the working directory, else the one that ships in the package."""
    own = Path(CONFIG_NAME)
    return own if own.is_file() else Path(str(files("sa_ray").joinpath(CONFIG_NAME)))


def _read(source: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(source.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{source.absolute()} cannot be read: {error}") from None
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, list) or not all(isinstance(a, dict) for a in applications):
        raise ConfigurationError(f"{source.absolute()} names no `applications`.")
    return dict(document)
