"""Write an ID3v2.3 tag in UTF-16: LAME, as libsndfile drives it, writes Latin-1 alone."""

import codecs
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_FRAMES: Final[Mapping[str, bytes]] = MappingProxyType(
    {"title": b"TIT2", "comment": b"COMM", "software": b"TSSE"}
)

_UTF_16: Final = b"\x01"
_NO_DESCRIPTION: Final = b"XXX" + codecs.BOM_UTF16_LE + b"\0\0"
"""Language, unknown, and description of a comment. Players show the one whose description is
empty."""


def id3_tag(texts: Mapping[str, str]) -> bytes:
    """Return the tag that goes before the first frame of an MP3 file; no bytes if all is blank.

    ``texts`` may hold ``title``, ``comment`` and ``software``.
    """
    frames = b"".join(_frame(_FRAMES[name], text) for name, text in texts.items() if text)
    if not frames:
        return b""
    # Seven bits in a byte, so that no decoder takes the size for the start of a frame.
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + frames


def _frame(name: bytes, text: str) -> bytes:
    body = _UTF_16 + (_NO_DESCRIPTION if name == b"COMM" else b"")
    body += codecs.BOM_UTF16_LE + text.encode("utf-16-le")
    return name + len(body).to_bytes(4, "big") + b"\0\0" + body
