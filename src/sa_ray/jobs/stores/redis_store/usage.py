"""Usage in Redis: a hash for each day, of ``<owner> <variant> <count>`` -> amount."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import redis

from sa_ray.contracts import USAGE_COUNTS, UsageRow

Rows = dict[tuple[str, str], dict[str, Any]]


def add(client: "redis.Redis", prefix: str, rows: Sequence[UsageRow]) -> None:
    """Add ``rows`` to what is there, all at once."""
    with client.pipeline(transaction=True) as pipeline:
        for row in rows:
            for count in USAGE_COUNTS:
                if amount := getattr(row, count):
                    field = f"{row.owner} {row.variant} {count}"
                    pipeline.hincrbyfloat(f"{prefix}usage:{row.day}", field, amount)
        pipeline.execute()


def read(
    client: "redis.Redis", prefix: str, first: str, last: str, owner: str | None
) -> list[UsageRow]:
    """Return the rows of these days, of ``owner`` or of all."""
    days = _days(first, last)
    with client.pipeline(transaction=False) as pipeline:
        for day in days:
            pipeline.hgetall(f"{prefix}usage:{day}")
        answers = pipeline.execute()
    return [
        row
        for day, found in zip(days, answers, strict=True)
        for row in _rows(day, found)
        if owner is None or row.owner == owner
    ]


def _rows(day: str, found: dict[bytes, bytes]) -> list[UsageRow]:
    rows: Rows = {}
    for field, amount in found.items():
        owner, variant, count = field.decode().split(" ")
        whole = not count.endswith("_seconds")
        counts = rows.setdefault((owner, variant), {})
        counts[count] = int(float(amount)) if whole else float(amount)
    return [
        UsageRow.model_validate({"day": day, "owner": owner, "variant": variant, **counts})
        for (owner, variant), counts in sorted(rows.items())
    ]


def _days(first: str, last: str) -> list[str]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]
