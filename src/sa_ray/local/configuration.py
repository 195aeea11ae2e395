"""Render ``serve_config.yaml`` for another address and other settings."""

import os
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

CONFIG_NAME = "serve_config.yaml"
IMPORT_PATH = "sa_ray.app:build"


def find_config() -> Path:
    """``serve_config.yaml`` of the working directory, else the one that ships in the package."""
    own = Path(CONFIG_NAME)
    return own if own.is_file() else Path(str(files("sa_ray").joinpath(CONFIG_NAME)))


def render_config(source: Path, *, host: str, port: int, args: Mapping[str, Any]) -> str:
    """The YAML of ``source`` with another address, and ``args`` laid over those of this service.

    Other applications in it stay as they are.
    """
    config = yaml.safe_load(source.read_text())
    config["http_options"] = {**(config.get("http_options") or {}), "host": host, "port": port}
    for application in config["applications"]:
        if application["import_path"] != IMPORT_PATH:
            continue
        application["args"] = {**(application.get("args") or {}), **args}
    return yaml.safe_dump(config, sort_keys=False)


def hold(text: str) -> Path:
    """A path at which this process, and the one it becomes with ``exec``, reads ``text``.

    The file behind it has no name: it is gone with the process, however that ends.
    """
    with tempfile.TemporaryFile("w") as file:
        file.write(text)
        file.flush()
        descriptor = os.dup(file.fileno())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return Path(f"/dev/fd/{descriptor}")
