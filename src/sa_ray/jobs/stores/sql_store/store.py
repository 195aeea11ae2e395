"""Jobs in a SQL database: SQLite by default, PostgreSQL by URL."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import Job, JobStatus, UsageRow, VariantName
from sa_ray.errors import JobStoreError
from sa_ray.jobs.api import Cursor, JobSnapshot, QueueCounts
from sa_ray.jobs.stores.port import COUNTED, QUEUE_HORIZON, HeldLease, Password
from sa_ray.jobs.stores.rows import JobReader, StoredRow, columns
from sa_ray.jobs.stores.sql_store import usage
from sa_ray.jobs.stores.sql_store.engine import create_job_engine, reading, transaction
from sa_ray.jobs.stores.sql_store.fair_shares import (
    advance,
    insert_in_order,
    settle,
)
from sa_ray.jobs.stores.sql_store.postgresql import unbounded
from sa_ray.jobs.stores.sql_store.schema import JOBS, SCHEMA_VERSION, SECRETS, WORKERS, migrate
from sa_ray.jobs.stores.sql_store.writes import GroupedWrites, SingleWrites, Writes

_STORED = (JOBS.c.id, JOBS.c.body)


def _is(status: JobStatus) -> ColumnElement[bool]:
    # Literal, or the planner cannot know that the partial index of the status has all rows.
    return JOBS.c.status == literal_column(f"'{status}'")


def _of(owner: str) -> ColumnElement[bool]:
    # Said in so many words, or the planner cannot know that the partial indexes have all rows.
    return and_(JOBS.c.owner == owner, JOBS.c.owner != literal_column("''"))


def _queued(variant: "VariantName | ColumnElement[str]") -> ColumnElement[bool]:
    return and_(JOBS.c.variant == variant, _is("queued"))


_GET = select(*_STORED).where(JOBS.c.id == bindparam("id"))
_SNAPSHOTS = text(
    f"""
    WITH wanted AS (
        SELECT id, body, variant, queue_order, status = 'queued' AS waits
        FROM jobs WHERE id IN :ids
    ), horizons AS (
        SELECT variant, (
            SELECT ahead.queue_order FROM jobs AS ahead
            WHERE ahead.variant = queues.variant AND ahead.status = 'queued'
            ORDER BY ahead.queue_order, ahead.id LIMIT 1 OFFSET {QUEUE_HORIZON - 1}
        ) AS queue_order
        FROM (SELECT DISTINCT variant FROM wanted WHERE waits) AS queues
    )
    SELECT wanted.id, wanted.body, CASE
        WHEN NOT waits THEN NULL
        WHEN wanted.queue_order > horizons.queue_order THEN {QUEUE_HORIZON}
        ELSE (
            SELECT COUNT(*) FROM (
                SELECT 1 FROM jobs AS ahead
                WHERE ahead.variant = wanted.variant AND ahead.status = 'queued'
                    AND (ahead.queue_order, ahead.id) <= (wanted.queue_order, wanted.id)
                ORDER BY ahead.queue_order, ahead.id LIMIT {QUEUE_HORIZON}
            ) AS counted
        )
    END AS place
    FROM wanted LEFT JOIN horizons ON horizons.variant = wanted.variant
    """  # noqa: S608 - a constant
).bindparams(bindparam("ids", expanding=True))
"""One statement, so that reading many jobs costs one call, and jobs and places are of one moment.
Where a queue is beyond its horizon is counted once for all of them. The order of what is counted
has the planner read the index, and no more of it."""

_LEASES = select(JOBS.c.id, JOBS.c.token, JOBS.c.stop_at).where(
    JOBS.c.worker == bindparam("worker")
)
_HEARTBEAT = {
    dialect.name: upsert.on_conflict_do_update(
        index_elements=[WORKERS.c.id], set_={"heartbeat": upsert.excluded.heartbeat}
    )
    for dialect, upsert in (
        (sqlite.dialect, sqlite.insert(WORKERS)),
        (postgresql.dialect, postgresql.insert(WORKERS)),
    )
}
_KEEP_SECRET = {
    "sqlite": sqlite.insert(SECRETS).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(SECRETS).on_conflict_do_nothing(),
}
_COUNTS = select(
    *(
        select(func.count()).where(JOBS.c.variant == variant, _is(status)).scalar_subquery()
        for variant in VARIANTS
        for status in COUNTED
    )
)
"""Each count reads an index alone; of one grouped statement, neither planner sees that."""

_age = tuple_(JOBS.c.created_at, JOBS.c.id)


class SqlJobStore:
    """A ``JobStore`` over SQLAlchemy. Opening it brings the schema up to date.

    Every method raises ``JobStoreError`` when the database refuses; ``transient`` says whether
    trying again can help.
    """

    def __init__(self, url: str, password: Password | None = None) -> None:
        self._writer = create_job_engine(url, password)
        self._reader = reading(self._writer)
        self._settler = self._writer.execution_options(isolation_level="AUTOCOMMIT")
        self._jobs = JobReader()
        dialect = self._writer.dialect.name
        self._heartbeat = _HEARTBEAT[dialect]
        self._keep_secret = _KEEP_SECRET[dialect]
        self._writes: Writes = (GroupedWrites if dialect == "sqlite" else SingleWrites)(
            self._writer
        )
        try:
            self._writes.run(_migrate)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        touch = update(SCHEMA_VERSION).values(version=SCHEMA_VERSION.c.version)
        self._writes.run(lambda connection: connection.execute(touch))

    def insert_all(self, jobs: Sequence[Job]) -> list[bool]:
        return self._writes.run(lambda connection: insert_in_order(connection, jobs))

    def get(self, job_id: str) -> Job | None:
        with transaction(self._reader) as connection:
            row = connection.execute(_GET, {"id": job_id}).one_or_none()
        return None if row is None else self._jobs.one(row)

    def snapshots(self, job_ids: Sequence[str]) -> dict[str, JobSnapshot | JobStoreError]:
        if not job_ids:
            return {}
        with transaction(self._reader) as connection:
            rows = connection.execute(_SNAPSHOTS, {"ids": job_ids}).all()
        return {row.id: self._jobs.snapshot(row, row.place) for row in rows}

    def get_by_key(self, owner: str, idempotency_key: str) -> Job | None:
        named = and_(JOBS.c.owner == owner, JOBS.c.idempotency_key == idempotency_key)
        found = self._rows(select(*_STORED).where(named))
        return self._jobs.one(found[0]) if found else None

    def replace(self, job: Job) -> bool:
        previous = and_(JOBS.c.id == job.id, JOBS.c.version == job.version - 1)
        change = update(JOBS).where(previous).values(columns(job))

        def write(connection: Connection) -> list[Job]:
            return [job] if connection.execute(change).rowcount == 1 else []

        if job.status in ("failed", "cancelled"):
            return bool(self._leave(job.request.model, write))
        return bool(self._writes.run(write))

    def delete(self, job: Job) -> bool:
        current = and_(JOBS.c.id == job.id, JOBS.c.version == job.version)
        removal = delete(JOBS).where(current)
        return self._writes.run(lambda connection: connection.execute(removal).rowcount == 1)

    def claim(
        self,
        variant: VariantName,
        worker: str,
        *,
        now: float,
        limit: int,
        take: Callable[[Job], Job],
    ) -> list[Job]:
        if limit <= 0:  # which SQLite takes for no limit
            return []
        due = (
            select(*_STORED, JOBS.c.queue_order)
            # An expression, or SQLite takes the index of what is due and sorts all of it.
            .where(_queued(variant), JOBS.c.not_before + 0.0 <= now)
            .where(or_(JOBS.c.stop_at.is_(None), JOBS.c.stop_at > now))
            .order_by(JOBS.c.queue_order, JOBS.c.id)
            .with_for_update(skip_locked=True)
        )

        def write(connection: Connection) -> list[Job]:
            connection.execute(self._heartbeat, {"id": worker, "heartbeat": now})
            orders: dict[str, float] = {}

            def fetch(n: int) -> Sequence[StoredRow]:
                rows = connection.execute(due.limit(n)).all()
                orders.update({row.id: row.queue_order for row in rows})
                return rows

            taken = [take(job) for job in self._jobs.first(limit, fetch)]
            if taken:
                connection.execute(
                    _UPDATE_LOCKED, [columns(job) | {"_id": job.id} for job in taken]
                )
                advance(connection, variant, [(job, orders[job.id]) for job in taken])
            return taken

        return self._leave(variant, write)

    def renew(self, worker: str, *, now: float) -> list[HeldLease]:
        def write(connection: Connection) -> list[HeldLease]:
            connection.execute(self._heartbeat, {"id": worker, "heartbeat": now})
            return _leases(connection, worker)

        return self._writes.run(write)

    def heartbeats(self) -> dict[str, float]:
        with transaction(self._reader) as connection:
            return {row.id: row.heartbeat for row in connection.execute(select(WORKERS))}

    def leases(self, worker: str) -> list[HeldLease]:
        with transaction(self._reader) as connection:
            return _leases(connection, worker)

    def forget_worker(self, worker: str, heartbeat: float) -> None:
        idle = and_(
            WORKERS.c.id == worker,
            WORKERS.c.heartbeat == heartbeat,
            ~exists().where(JOBS.c.worker == worker),
        )
        self._writes.run(lambda connection: connection.execute(delete(WORKERS).where(idle)))

    def overdue(self, *, now: float, limit: int) -> list[Job]:
        # An expression, or SQLite takes the index of the status and sorts all of the queue.
        queued = func.coalesce(JOBS.c.status, "") == "queued"
        return self._first(limit, _reached(JOBS.c.stop_at, now).where(queued))

    def ended(self, *, before: float, limit: int) -> list[Job]:
        return self._first(limit, _reached(JOBS.c.completed_at, before))

    def unclean(self, *, now: float, limit: int) -> list[Job]:
        return self._first(limit, _reached(JOBS.c.cleanup_at, now))

    def due_webhooks(self, *, now: float, limit: int) -> list[Job]:
        return self._first(limit, _reached(JOBS.c.webhook_at, now))

    def queue(self, variant: VariantName, *, limit: int) -> list[str]:
        with transaction(self._reader) as connection:
            return list(connection.execute(_in_order(variant, JOBS.c.id).limit(limit)).scalars())

    def next_jobs(self, variant: VariantName, *, limit: int) -> list[Job]:
        return self._first(limit, _in_order(variant, *_STORED))

    def page(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        owner: str | None = None,
    ) -> list[Job]:
        newest_first = select(*_STORED).order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc())
        if after is not None:
            older = _age < tuple_(literal(after.created_at), literal(after.id))
            newest_first = newest_first.where(older)
        if status is not None:
            newest_first = newest_first.where(JOBS.c.status == status)
        if owner is not None:
            newest_first = newest_first.where(_of(owner))
        return self._first(limit, newest_first)

    def counts(self) -> QueueCounts:
        with transaction(self._reader) as connection:
            found = iter(connection.execute(_COUNTS).one())
        return {variant: {status: next(found) for status in COUNTED} for variant in VARIANTS}

    def queued_of(self, owner: str) -> int:
        theirs = and_(JOBS.c.owner == owner, JOBS.c.owner != "", JOBS.c.status == "queued")
        [found] = self._rows(select(func.count().label("jobs")).where(theirs))
        return int(found.jobs)

    def next_due(self, variant: VariantName) -> float | None:
        earliest = (
            select(JOBS.c.id, JOBS.c.not_before).where(_queued(variant)).order_by(JOBS.c.not_before)
        )

        def first(limit: int) -> list[tuple[str, float]]:
            return [(row.id, row.not_before) for row in self._rows(earliest.limit(limit))]

        return self._jobs.first_readable(first)

    def secret(self, name: str, fresh: str) -> str:
        def write(connection: Connection) -> str:
            connection.execute(self._keep_secret, {"name": name, "value": fresh})
            found = select(SECRETS.c.value).where(SECRETS.c.name == name)
            return str(connection.execute(found).scalar_one())

        return self._writes.run(write)

    def add_usage(self, rows: Sequence[UsageRow]) -> None:
        self._writes.run(lambda connection: usage.add(connection, rows))

    def usage(self, first: str, last: str, owner: str | None) -> list[UsageRow]:
        found = self._rows(usage.days(first, last, owner))
        return [UsageRow.model_validate(dict(row._mapping)) for row in found]  # noqa: SLF001

    def close(self) -> None:
        self._writes.close()
        self._writer.dispose()

    def _leave(self, variant: VariantName, write: Callable[[Connection], list[Job]]) -> list[Job]:
        """Take jobs out of the queue of ``variant``, as ``write`` does, and settle for them."""

        def settled(connection: Connection) -> list[Job]:
            left = write(connection)
            settle(connection, variant, left)
            return left

        if self._writer.dialect.name == "sqlite":  # one writer at a time
            return self._writes.run(settled)
        left = self._writes.run(write)
        if left:
            # They have left, whatever becomes of this; the owner's next that leaves settles too.
            with suppress(JobStoreError), transaction(self._settler) as connection:
                settle(connection, variant, left)
        return left

    def _first(self, limit: int, statement: Select[Any]) -> list[Job]:
        return self._jobs.first(limit, lambda n: self._rows(statement.limit(n)))

    def _rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with transaction(self._reader) as connection:
            return connection.execute(statement).all()


def _migrate(connection: Connection) -> None:
    with unbounded(connection):
        migrate(connection)


_UPDATE_LOCKED = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("_id"))
    .values(
        {
            column: bindparam(column.name)
            for column in JOBS.c
            if not column.primary_key and column is not JOBS.c.queue_order
        }
    )
)


def _leases(connection: Connection, worker: str) -> list[HeldLease]:
    return [HeldLease(*row) for row in connection.execute(_LEASES, {"worker": worker})]


def _in_order(variant: VariantName, *wanted: Column[Any]) -> Select[Any]:
    return select(*wanted).where(_queued(variant)).order_by(JOBS.c.queue_order, JOBS.c.id)


def _reached(column: Column[Any], time: float) -> Select[Any]:
    return select(*_STORED).where(column <= time).order_by(column)
