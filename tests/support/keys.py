"""Files of keys, as tests need them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sa_ray.access import new_secret
from sa_ray.access.keys_file import hash_text


def write_keys(path: Path, *keys: Mapping[str, Any]) -> dict[str, str]:
    """Write a file of new keys with these fields, and return the keys by name."""
    secrets = {str(key["name"]): new_secret() for key in keys}
    put_keys(path, ({"hash": hash_text(secrets[key["name"]])} | dict(key) for key in keys))
    return secrets


def put_keys(path: Path, keys: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file at once, as an editor or a Secret's mount does."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(yaml.safe_dump({"keys": [dict(key) for key in keys]}))
    new.replace(path)
