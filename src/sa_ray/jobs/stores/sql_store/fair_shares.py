"""The order of the queues in SQL: start tags, as ``jobs.stores.port`` says."""

# ruff: noqa: S608 - what is put into the texts are constants of this module

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, or_, select, text, tuple_
from sqlalchemy.dialects import postgresql, sqlite

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

_TAKE_SHARE = {
    name: text(
        f"""
        INSERT INTO queue_shares (variant, priority, owner, finish)
        SELECT :variant, :priority, :owner, ({_FLOOR.format(priority=priority, greatest=greatest)})
            + :work WHERE true
        ON CONFLICT (variant, priority, owner)
        DO UPDATE SET finish = {greatest}(queue_shares.finish + :work, excluded.finish)
        RETURNING finish - :work AS start
        """
    )
    for name, priority, greatest in (
        ("sqlite", ":priority", "max"),
        ("postgresql", "CAST(:priority AS TEXT)", "GREATEST"),
    )
}

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

_INSERT = {
    dialect.name: statement.on_conflict_do_nothing().returning(JOBS.c.id)
    for dialect, statement in (
        (sqlite.dialect, sqlite.insert(JOBS)),
        (postgresql.dialect, postgresql.insert(JOBS)),
    )
}

_KNOWN = select(JOBS.c.id, JOBS.c.owner, JOBS.c.idempotency_key).where(
    or_(
        JOBS.c.id.in_(bindparam("ids", expanding=True)),
        tuple_(JOBS.c.owner, JOBS.c.idempotency_key).in_(bindparam("keys", expanding=True)),
    )
)


def insert_in_order(connection: Connection, jobs: Sequence[Job]) -> list[bool]:
    """Store new jobs in their places, in the order in which they came; return whether each is
    stored: it is not if there is one with its id or its key."""
    first = {job.id: job for job in reversed(jobs)}
    wanted = [job for job in jobs if first[job.id] is job]
    while len(stored := _insert(connection, wanted)) < len(wanted):
        wanted = [job for job in wanted if job.id in stored]
    return [job.id in stored and first[job.id] is job for job in jobs]


def _insert(connection: Connection, jobs: Sequence[Job]) -> set[str]:
    """Store ``jobs``, or none of them if there is one with an id or a key of theirs; return the
    ids of those without one. Some of ``jobs`` may have one key."""
    dialect = connection.dialect.name
    places = connection.begin_nested()
    rows = _placed(connection, jobs)
    # Insert no row that is known: that would wait for whoever claims it, and who waits for a share
    # that is held here. Look for them now: others that hold these shares have come to an end.
    stored = _unknown(connection, jobs) if dialect == "postgresql" else {job.id for job in jobs}
    if rows and len(stored) == len(rows):
        stored = set(connection.execute(_INSERT[dialect], rows).scalars())
    if len(stored) == len(rows):
        places.commit()
    else:  # the shares have been charged for all
        places.rollback()
    return stored


def _placed(connection: Connection, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Take the shares of ``jobs``, and return their rows.

    Shares and rows are in one order, so that of transactions that meet one waits for the other.
    """
    take = _TAKE_SHARE[connection.dialect.name]
    rows = []
    for (variant, priority, owner), group in groupby(sorted(jobs, key=_share), _share):
        of_share = list(group)  # in the order in which they came: sorting keeps it
        work = sum(job.work for job in of_share)
        share = {"variant": variant, "priority": priority, "owner": owner, "work": work}
        start = connection.execute(take, share).scalar_one()
        for job in of_share:
            rows.append(columns(job) | {"queue_order": start - HEAD_START_S[priority]})
            start += job.work
    return sorted(rows, key=lambda row: (row["owner"], row["idempotency_key"] or ""))


def _unknown(connection: Connection, jobs: Sequence[Job]) -> set[str]:
    """Return the ids of those of ``jobs`` whose id and key no stored job has."""
    keyed = {
        job.id: (job.owner, job.idempotency_key) for job in jobs if job.idempotency_key is not None
    }
    asked = {"ids": [job.id for job in jobs], "keys": [*keyed.values()]}
    known = connection.execute(_KNOWN, asked).all()
    ids = {row.id for row in known}
    keys = {(row.owner, row.idempotency_key) for row in known}
    return {job.id for job in jobs if job.id not in ids and keyed.get(job.id) not in keys}


def _share(job: Job) -> tuple[VariantName, Priority, str]:
    return job.request.model, job.priority, job.owner


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
    for job, order in sorted(claimed, key=lambda one: _share(one[0])):
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
