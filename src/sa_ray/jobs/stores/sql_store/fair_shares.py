"""The order of the queues in SQL: start tags, as ``jobs.stores.port`` says."""

# ruff: noqa: S608 - what is put into the texts are constants of this module

from collections.abc import Sequence

from sqlalchemy import Connection, Insert, insert, text
from sqlalchemy.dialects import postgresql

from sa_ray.contracts import Job, Priority, VariantName
from sa_ray.jobs.lifecycle import HEAD_START_S, reached
from sa_ray.jobs.stores.rows import columns
from sa_ray.jobs.stores.sql_store.schema import JOBS

_FLOOR = """
    SELECT {greatest}(0.0, COALESCE(MAX(
        CASE WHEN queue_positions.priority = {priority} THEN start ELSE reached END
    ), 0.0))
    FROM queue_positions WHERE queue_positions.variant = :variant
"""
"""Where a job of an owner that has nothing in the queue starts: at 0 in a new one."""

_TAKE_SHARE = """
    INSERT INTO queue_shares (variant, priority, owner, finish)
    SELECT :variant, :priority, :owner, ({floor}) + :work WHERE {condition}
    ON CONFLICT (variant, priority, owner)
    DO UPDATE SET finish = {greatest}(queue_shares.finish + :work, excluded.finish)
    RETURNING finish - :work AS start
"""

_SQLITE_SHARE = text(
    _TAKE_SHARE.format(
        floor=_FLOOR.format(priority=":priority", greatest="max"),
        condition="true",
        greatest="max",
    )
)

_NAMES = [column.name for column in JOBS.c if column.name != "queue_order"]
_TYPES = {
    name: column.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    for name, column in JOBS.c.items()
}
_POSTGRESQL_INSERT = text(
    "WITH share AS ("
    + _TAKE_SHARE.format(
        floor=_FLOOR.format(priority="CAST(:priority AS TEXT)", greatest="GREATEST"),
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
_CLAIM = {
    name: text(
        f"""
        UPDATE queue_shares SET claimed = {greatest}(claimed, :finish)
        WHERE variant = :variant AND priority = :priority AND owner = :owner
        """
    )
    for name, greatest in (("sqlite", "max"), ("postgresql", "GREATEST"))
}
_UNUSED = """
    variant = :variant AND owner = :owner AND finish > claimed AND NOT EXISTS (
        SELECT 1 FROM jobs
        WHERE jobs.variant = :variant AND jobs.owner = :owner AND jobs.status = 'queued'
    )
"""
# Of a share that a submit has just charged, ``finish`` is another: its job was not seen.
_SETTLE = {
    "sqlite": text(f"UPDATE queue_shares SET finish = claimed WHERE {_UNUSED}"),
    "postgresql": text(
        f"""
        UPDATE queue_shares SET finish = claimed WHERE (variant, priority, owner, finish) IN (
            SELECT variant, priority, owner, finish FROM queue_shares WHERE {_UNUSED}
            FOR UPDATE SKIP LOCKED
        )
        """
    ),
}
_IDLE = {
    name: "variant = :variant AND finish <= "
    f"({_FLOOR.format(priority='queue_shares.priority', greatest=greatest)})"
    for name, greatest in (("sqlite", "max"), ("postgresql", "GREATEST"))
}
_PRUNE = {
    "sqlite": text(f"DELETE FROM queue_shares WHERE {_IDLE['sqlite']}"),
    # A share that is being taken is not waited for: who takes it may wait for others.
    "postgresql": text(
        f"""
        DELETE FROM queue_shares WHERE (variant, priority, owner) IN (
            SELECT variant, priority, owner FROM queue_shares WHERE {_IDLE["postgresql"]}
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


def locked_share(job: Job) -> str:
    """Name the share of a job, by which transactions that lock several of them sort."""
    return f"{job.request.model} {job.priority} {job.owner}"


def settle(connection: Connection, variant: VariantName, left: Sequence[Job]) -> None:
    """Charge the owners of jobs that left the queue for those alone that were claimed, if they
    have no more in it.

    Where transactions run at once, that is after the one in which the jobs left: of two that take
    an owner's last jobs, neither sees what the other does.
    """
    dialect = connection.dialect.name
    for owner in sorted({job.owner for job in left}):
        connection.execute(_SETTLE[dialect], {"variant": variant, "owner": owner})


def advance(
    connection: Connection, variant: VariantName, claimed: Sequence[tuple[Job, float]]
) -> None:
    """Note jobs that are claimed, each with its ``queue_order``, and forget owners whose shares
    make no difference any more."""
    dialect = connection.dialect.name
    # Each row once, and in one order, so that claimers do not wait for each other.
    starts: dict[Priority, float] = {}
    finishes: dict[tuple[Priority, str], float] = {}
    for job, order in sorted(claimed, key=lambda one: locked_share(one[0])):
        start = order + HEAD_START_S[job.priority]
        share = job.priority, job.owner
        starts[job.priority] = max(start, starts.get(job.priority, start))
        finishes[share] = max(start + job.work, finishes.get(share, 0.0))
    for priority, start in starts.items():
        position = {"variant": variant, "priority": priority, "start": start}
        connection.execute(_ADVANCE[dialect], position | {"reached": reached(priority, start)})
    for (priority, owner), finish in finishes.items():
        share_of = {"variant": variant, "priority": priority, "owner": owner}
        connection.execute(_CLAIM[dialect], share_of | {"finish": finish})
    connection.execute(_PRUNE[dialect], {"variant": variant})
