"""The order of the queues in SQL: start tags, as ``jobs.stores.port`` says."""

# ruff: noqa: S608 - what is put into the texts are constants of this module

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Insert, insert, text
from sqlalchemy.dialects import postgresql

from sa_ray.contracts import Job, Priority, VariantName
from sa_ray.jobs.lifecycle import HEAD_START_S, reached
from sa_ray.jobs.stores.rows import columns
from sa_ray.jobs.stores.sql_store.schema import JOBS

_FLOOR = """
    SELECT MAX(CASE WHEN queue_positions.priority = {priority} THEN start ELSE reached END)
    FROM queue_positions WHERE queue_positions.variant = :variant
"""
"""Where a job of an owner that has nothing in the queue starts."""

_TAKE_SHARE = """
    INSERT INTO queue_shares (variant, priority, owner, finish)
    SELECT :variant, :priority, :owner, COALESCE(({floor}), 0.0) + :work WHERE {condition}
    ON CONFLICT (variant, priority, owner)
    DO UPDATE SET finish = {greatest}(queue_shares.finish + :work, excluded.finish)
    RETURNING finish - :work AS start
"""

_SQLITE_SHARE = text(
    _TAKE_SHARE.format(floor=_FLOOR.format(priority=":priority"), condition="true", greatest="max")
)

_NAMES = [column.name for column in JOBS.c if column.name != "queue_order"]
_TYPES = {
    name: column.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    for name, column in JOBS.c.items()
}
_POSTGRESQL_INSERT = text(
    "WITH share AS ("
    + _TAKE_SHARE.format(
        floor=_FLOOR.format(priority="CAST(:priority AS TEXT)"),
        condition="""NOT EXISTS (SELECT FROM jobs WHERE jobs.id = :id) AND NOT EXISTS (
            SELECT FROM jobs
            WHERE jobs.owner = :owner AND jobs.idempotency_key = CAST(:idempotency_key AS TEXT)
        )""",
        greatest="GREATEST",
    )
    + f") INSERT INTO jobs ({', '.join(_NAMES)}, queue_order) SELECT "
    + ", ".join(f"CAST(:{name} AS {_TYPES[name]})" for name in _NAMES)
    + ", share.start - :head_start FROM share ON CONFLICT DO NOTHING RETURNING id"
)
"""One statement, so that its one round trip is all that an insert costs."""

_ADVANCE = {
    name: text(
        f"""
        INSERT INTO queue_positions (variant, priority, start, reached)
        VALUES (:variant, :priority, :start, :reached)
        ON CONFLICT (variant, priority) DO UPDATE
        SET start = {greatest}(queue_positions.start, excluded.start),
            reached = {greatest}(queue_positions.reached, excluded.reached)
        """
    )
    for name, greatest in (("sqlite", "max"), ("postgresql", "GREATEST"))
}
_IDLE = f"variant = :variant AND finish <= ({_FLOOR.format(priority='queue_shares.priority')})"
_PRUNE = {
    "sqlite": text(f"DELETE FROM queue_shares WHERE {_IDLE}"),
    # A share that is being taken is not waited for: who takes it may wait for others.
    "postgresql": text(
        f"""
        DELETE FROM queue_shares WHERE (variant, priority, owner) IN (
            SELECT variant, priority, owner FROM queue_shares WHERE {_IDLE}
            FOR UPDATE SKIP LOCKED
        )
        """
    ),
}

_INSERT: Insert = insert(JOBS)


def insert_in_order(connection: Connection, job: Job) -> bool:
    """Store a new job in its place. Returns False, or raises ``IntegrityError``, if there is one
    with its id or its key."""
    share = {
        "variant": job.request.model,
        "priority": job.priority,
        "owner": job.owner,
        "work": job.work,
    }
    head_start = HEAD_START_S[job.priority]
    if connection.dialect.name == "postgresql":
        row = columns(job) | share | {"head_start": head_start}
        return connection.execute(_POSTGRESQL_INSERT, row).first() is not None
    start = connection.execute(_SQLITE_SHARE, share).scalar_one()
    connection.execute(_INSERT, columns(job) | {"queue_order": start - head_start})
    return True


def advance(
    connection: Connection, variant: VariantName, claimed: Iterable[tuple[Priority, float]]
) -> None:
    """Note the priority and the ``queue_order`` of jobs that are claimed, and forget owners whose
    shares make no difference any more."""
    starts: dict[Priority, float] = {}
    for priority, order in claimed:
        start = order + HEAD_START_S[priority]
        starts[priority] = max(start, starts.get(priority, start))
    dialect = connection.dialect.name
    for priority in sorted(starts):  # in one order, so that claimers do not wait for each other
        row: dict[str, Any] = {"variant": variant, "priority": priority}
        start = starts[priority]
        connection.execute(
            _ADVANCE[dialect], row | {"start": start, "reached": reached(priority, start)}
        )
    connection.execute(_PRUNE[dialect], {"variant": variant})
