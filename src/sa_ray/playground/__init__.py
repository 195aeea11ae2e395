"""The web page: HTML, CSS and ES modules, served as they lie here. Nothing builds them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

INDEX: Final = "index.html"
"""Name of the page itself; it names all others."""

MEDIA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
"""Of the files that are served, by ending: all others here are none of the page."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page. ``digest`` changes with its content."""

    content: bytes
    media_type: str
    digest: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """Return the files of the page, by name. They are read once for each process."""
    found: dict[str, PageFile] = {}
    for entry in files(__name__).iterdir():
        media_type = MEDIA_TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if media_type:
            content = entry.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            found[entry.name] = PageFile(content, media_type, digest)
    return MappingProxyType(found)
