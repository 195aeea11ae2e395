"""Settings with secrets, which no argument may hold: they come from the environment and files."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sa_ray.settings import Settings, load_settings
from sa_ray.settings.reading import GROUPS

VARIABLES = {name: group.variables(name)[0] for group in GROUPS for name in group.secrets()}
"""The variable of each secret, by setting."""

PLACEHOLDER = "whsec_" + "A" * 32
"""Passes for any secret."""


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set ``variables`` in this process."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def settings_of(args: Mapping[str, Any]) -> Settings:
    """Load settings: ``args``, but the secrets among them from the environment."""
    secrets = {name: text for name, text in args.items() if text and name in VARIABLES}
    with environment({VARIABLES[name]: text for name, text in secrets.items()}):
        return load_settings({name: args[name] for name in args.keys() - secrets.keys()})


class SecretFiles:
    """A file for each secret, for services that come one after the other on one Ray."""

    def __init__(self, folder: Path) -> None:
        self._paths = {name: folder / name for name in VARIABLES}
        self.args({})

    @property
    def variables(self) -> dict[str, str]:
        """The environment of that Ray, and of whoever builds a service."""
        return {f"{VARIABLES[name]}_FILE": str(path) for name, path in self._paths.items()}

    def path(self, name: str) -> Path:
        """The file of a secret, by setting."""
        return self._paths[name]

    def args(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Write the secrets among ``settings``; return the arguments that leave it at those."""
        for name, path in self._paths.items():
            path.write_text(settings.get(name) or PLACEHOLDER)
        unset = {name: "" for name in VARIABLES if not settings.get(name)}
        return {name: value for name, value in settings.items() if name not in VARIABLES} | unset
