"""Name the caller of a request."""

from typing import Any

from starlette.requests import HTTPConnection

from sa_ray.contracts.access import ANYBODY, Caller

CALLER = "sa_ray.caller"
"""Key of the scope under which the outermost middleware leaves the caller."""


def caller_of(http: HTTPConnection) -> Caller:
    """Return the caller, whose key has been checked."""
    found: Any = http.scope.get(CALLER, ANYBODY)
    return found  # type: ignore[no-any-return]
