"""The table of usage: what each key had made on each day, by variant."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    MetaData,
    Select,
    Table,
    Text,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from sa_ray.contracts import UsageRow

USAGE = Table(
    "usage",
    MetaData(),
    Column("day", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("variant", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("jobs", BigInteger, nullable=False),
    Column("clips", BigInteger, nullable=False),
    Column("audio_seconds", Double, nullable=False),
    Column("gpu_seconds", Double, nullable=False),
    Column("accepted_seconds", Double, nullable=False),
)

_ADD = {
    dialect.name: upsert.on_conflict_do_update(
        index_elements=list(USAGE.primary_key),
        set_={
            column.name: column + upsert.excluded[column.name]
            for column in USAGE.c
            if not column.primary_key
        },
    )
    for dialect, upsert in (
        (sqlite.dialect, sqlite.insert(USAGE)),
        (postgresql.dialect, postgresql.insert(USAGE)),
    )
}


def add(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Add ``rows`` to what is there; in an order that all writers share, so that none deadlock."""
    for row in sorted(rows, key=lambda row: row.place):
        connection.execute(_ADD[connection.dialect.name], row.model_dump())


def days(first: str, last: str, owner: str | None) -> Select[Any]:
    """Return what selects the rows of these days, of ``owner`` or of all."""
    found = select(USAGE).where(USAGE.c.day.between(first, last))
    if owner is not None:
        found = found.where(USAGE.c.owner == owner)
    return found.order_by(USAGE.c.day, USAGE.c.owner, USAGE.c.variant)
