"""Read the environment of this process, and files of secrets that it names."""

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from dotenv import dotenv_values, find_dotenv

from sa_ray.errors import ConfigurationError
from sa_ray.settings.values import trimmed

FILE_SUFFIX = "_FILE"
"""Ends the name of a variable that names a file with the value of another."""

BLANK_MEANS_SOMETHING = frozenset({"STABLE_AUDIO_PRELOAD_MODELS"})
"""Variables for which blank does not mean unset."""


def dotenv_path() -> str:
    """Find ``.env`` from the working directory upwards; empty if there is none."""
    try:
        return find_dotenv(usecwd=True)
    except FileNotFoundError:  # the directory was removed while this process runs
        return ""


def own_variables(secret: Iterable[str]) -> list[dict[str, str]]:
    """Return the variables of this process, then those of ``.env``, which count for less.

    ``secret``: as for ``without_files``, which says what is raised.
    """
    path = dotenv_path()
    try:
        # Asked for each connection: parsed once for each version of the file.
        in_file = _parsed(path, Path(path).stat().st_mtime_ns) if path else {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({_reason(error)}).") from None
    found: list[Mapping[str, str | None]] = [os.environ, in_file]
    return [without_files(without_blanks(variables), secret) for variables in found]


def without_blanks(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Trim ``variables``; drop blank ones, which Compose files and shells make of unset ones."""
    texts = {name: trimmed(text) for name, text in variables.items() if text is not None}
    return {name: text for name, text in texts.items() if text or name in BLANK_MEANS_SOMETHING}


def without_files(variables: Mapping[str, str], secret: Iterable[str]) -> dict[str, str]:
    """Set each variable of ``secret`` for which another, ``<name>_FILE``, names a file.

    Raises ``ConfigurationError`` if both are set, or the file is blank or cannot be read.
    """
    found = dict(variables)
    for name in secret:
        pointer = name + FILE_SUFFIX
        if pointer not in variables:
            continue
        if name in variables:
            raise ConfigurationError(
                f"{name} and {pointer} are both set: leave one out.", param=pointer
            )
        found[name] = _content(pointer, Path(variables[pointer]).expanduser())
    return found


def _content(pointer: str, path: Path) -> str:
    try:
        text = trimmed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{pointer} names {path}, which cannot be read ({_reason(error)}).", param=pointer
        ) from None
    if not text:
        raise ConfigurationError(f"{pointer} names {path}, which is empty.", param=pointer)
    return text


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return getattr(error, "strerror", None) or "it is not text in UTF-8"


@lru_cache(maxsize=1)
def _parsed(path: str, _version: int) -> dict[str, str | None]:
    return dotenv_values(path)
