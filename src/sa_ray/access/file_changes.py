"""Change the file of keys: replaced as a whole, under a lock; a new one is for its owner alone."""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sa_ray.access.keys_file import (
    MAX_HASHES,
    Key,
    hash_text,
    new_secret,
    parse_keys,
    read_keys,
)
from sa_ray.errors import ConfigurationError

HEADER = "# Written by `sa-ray keys`. Comments are lost then; each key may have a `note`.\n"


def add_key(path: Path, name: str, fields: dict[str, Any], *, again: bool = False) -> str:
    """Add a key to the file, which is made if there is none, and return it: it is kept nowhere.

    ``fields``: those of ``Key`` besides name and hash. ``again``: another key for a name that is
    there already, whose old ones stay valid. Raises ``ConfigurationError``, and leaves the file as
    it is, if the name is there (or, with ``again``, not there) or a field is not allowed.
    """
    secret = new_secret()
    with _changed(path) as entries:
        if again:
            found = _named(entries, name)
            found["hash"] = [*_hashes(found), hash_text(secret)]
            if len(found["hash"]) > MAX_HASHES:
                raise ConfigurationError(
                    f"{name} has {MAX_HASHES} keys, the most: `sa-ray keys revoke --old {name}` "
                    "withdraws all but the newest."
                )
        elif any(entry["name"] == name for entry in entries):
            raise ConfigurationError(
                f"There is a key {name} already. `--again` gives it another one beside it."
            )
        else:
            entries.append({"name": name, "hash": hash_text(secret)} | fields)
    return secret


def revoke_key(path: Path, name: str, *, old: bool = False) -> None:
    """Take a name and its keys out of the file; ``old``: only its keys but the newest.

    Raises ``ConfigurationError`` if there is no such name.
    """
    with _changed(path, make=False) as entries:
        found = _named(entries, name)
        if old:
            found["hash"] = _hashes(found)[-1]
        else:
            entries.remove(found)


@contextmanager
def _changed(path: Path, *, make: bool = True) -> Iterator[list[dict[str, Any]]]:
    """Yield the entries of the file to be changed, and write them if the block does not raise."""
    with _locked(path):
        entries: list[dict[str, Any]] = []
        if path.exists() or not make:
            entries = [_entry(key) for key in read_keys(path)]
        yield entries
        text = HEADER + yaml.safe_dump({"keys": entries}, sort_keys=False, allow_unicode=True)
        parse_keys(text, path)
        _replace(path.resolve(), text)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    beside = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be changed here ({error.strerror}). Where it is mounted from "
            "elsewhere, change it there: `sa-ray keys` works on a copy, too, that "
            "STABLE_AUDIO_API_KEYS_FILE names."
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    """Put ``text`` in the place of the file at once: readers find the old one or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            _keep_access(Path(name), path.stat())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _keep_access(new: Path, old: os.stat_result) -> None:
    """Let those read the file who could: a service of another user, whose keys root changes."""
    new.chmod(stat.S_IMODE(old.st_mode))
    if os.geteuid() == 0:
        os.chown(new, old.st_uid, old.st_gid)


def _entry(key: Key) -> dict[str, Any]:
    entry = key.model_dump(exclude_unset=True)
    hashes = entry["hash"]
    return entry | {"hash": hashes[0] if len(hashes) == 1 else hashes}


def _hashes(entry: dict[str, Any]) -> list[str]:
    found: str | list[str] = entry["hash"]
    return [found] if isinstance(found, str) else found


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in entries:
        if entry["name"] == name:
            return entry
    raise ConfigurationError(f"There is no key {name}; `sa-ray keys list` lists them.")
