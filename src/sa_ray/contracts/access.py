"""Callers: who sends a request, and what they may do."""

from typing import Final, Literal, get_args

from pydantic import Field

from sa_ray.contracts.names import Priority, VariantName
from sa_ray.contracts.record import Record

Scope = Literal["generate", "jobs:own", "jobs:all", "admin"]
"""``generate``: make audio. ``jobs:own``, ``jobs:all``: see and change one's own jobs, or those of
all. ``admin``: everything, and the detail of ``/health``."""

KEY_NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class Limits(Record):
    """How much a caller may ask for; null: any amount."""

    requests_per_minute: int | None = Field(None, ge=1)
    concurrent_requests: int | None = Field(None, ge=1)
    queued_jobs: int | None = Field(None, ge=1)
    audio_seconds_per_day: float | None = Field(None, gt=0)
    """Seconds of audio in a day of UTC."""


class Rights(Record):
    """What a caller may name in a request, besides what its scopes open."""

    models: frozenset[VariantName] | None = None
    """Null: all."""
    priorities: frozenset[Priority] | None = None
    """Null: all."""
    webhooks: bool = True


class Caller(Record):
    """The sender of a request: the key that it came with, or anybody where there are no keys."""

    name: str
    """Name of the key, which owns what the caller makes; empty: anybody."""
    scopes: frozenset[Scope]
    limits: Limits = Limits()
    rights: Rights = Rights()
    weight: float = Field(default=1.0, gt=0)
    """Share of the queue's work, as against that of others."""

    def may(self, scope: Scope) -> bool:
        """Return whether the caller has ``scope``, or one that includes it."""
        includes = {"admin", scope, *(("jobs:all",) if scope == "jobs:own" else ())}
        return not includes.isdisjoint(self.scopes)

    def sees(self, owner: str) -> bool:
        """Return whether what ``owner`` made exists for this caller."""
        return (owner != "" and owner == self.name) or self.may("jobs:all")


NOBODY: Final = Caller(name="", scopes=frozenset())
"""A caller without rights: who comes with a signed link, which says itself what it is for."""

ANYBODY: Final = Caller(name="", scopes=frozenset(get_args(Scope)))
"""The caller where there are no keys. What it made belongs to admins once there are."""
