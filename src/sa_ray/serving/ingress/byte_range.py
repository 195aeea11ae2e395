"""The ``Range`` header, as far as players and download tools use it (RFC 9110, section 14)."""

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class RangeNotSatisfiableError(ValueError):
    """The range starts at or after the end."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``[start, end)``."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Return the part of ``size`` bytes that ``header`` asks for; None means all of them.

    Several ranges, other units and malformed headers are ignored, as the RFC allows. Raises
    ``RangeNotSatisfiableError`` if nothing lies in the range.
    """
    match = _SINGLE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise RangeNotSatisfiableError(header)
    return ByteRange(start, end)
