"""Jobs in a SQL database: SQLite by default, PostgreSQL by URL."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import Job, JobStatus, VariantName
from sa_ray.errors import ConflictError
from sa_ray.jobs.api import Cursor, QueueCounts
from sa_ray.jobs.lifecycle import queue_order
from sa_ray.jobs.stores.port import COUNTED, queue_full
from sa_ray.jobs.stores.rows import JobReader, columns
from sa_ray.jobs.stores.sql_store.engine import create_job_engine, reading, transaction
from sa_ray.jobs.stores.sql_store.schema import JOBS, SCHEMA_VERSION, migrate
from sa_ray.jobs.stores.sql_store.writes import GroupedWrites, SingleWrites, Writes

UNSEEN_INSERTS = 200
"""Distance from the queue's limit at which inserts need not wait for each other. It is more than
the PostgreSQL transactions that can be under way at once (its connection limit is 100 by
default)."""

_STORED = (JOBS.c.id, JOBS.c.body, JOBS.c.lease_expires_at)
_GET = select(*_STORED).where(JOBS.c.id == bindparam("id"))
_POSITION = (
    select(func.count())
    .select_from(JOBS)
    .where(JOBS.c.variant == bindparam("variant"), JOBS.c.status == "queued")
    .where(
        tuple_(JOBS.c.queue_order, JOBS.c.id) <= tuple_(bindparam("queue_order"), bindparam("id"))
    )
)
"""Built once: building a statement costs as much as executing it, and most reads are these."""

_age = tuple_(JOBS.c.created_at, JOBS.c.id)


class SqlJobStore:
    """A ``JobStore`` over SQLAlchemy. Opening it brings the schema up to date.

    Every method raises ``JobStoreError`` when the database refuses; ``transient`` says whether
    trying again can help.
    """

    def __init__(self, url: str) -> None:
        self._writer = create_job_engine(url)
        self._reader = reading(self._writer)
        self._jobs = JobReader()
        is_sqlite = self._writer.dialect.name == "sqlite"
        self._writes: Writes = (GroupedWrites if is_sqlite else SingleWrites)(self._writer)
        try:
            self._writes.run(migrate)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        touch = update(SCHEMA_VERSION).values(version=SCHEMA_VERSION.c.version)
        self._writes.run(lambda connection: connection.execute(touch))

    def insert(self, job: Job, *, max_queued: int) -> None:
        queued = select(func.count()).select_from(JOBS).where(JOBS.c.status == "queued")

        def write(connection: Connection) -> None:
            waiting = connection.execute(queued).scalar_one()
            if waiting + UNSEEN_INSERTS >= max_queued:
                # Others may be inserting. Near the limit, insert one at a time.
                connection.execute(select(SCHEMA_VERSION.c.version).with_for_update())
                waiting = connection.execute(queued).scalar_one()
            if waiting >= max_queued:
                raise queue_full(max_queued)
            try:
                connection.execute(insert(JOBS).values(columns(job)))
            except IntegrityError:
                raise ConflictError(
                    f"Job {job.id} or its idempotency key exists already."
                ) from None

        self._writes.run(write)

    def get(self, job_id: str) -> Job | None:
        with transaction(self._reader) as connection:
            row = connection.execute(_GET, {"id": job_id}).one_or_none()
        return None if row is None else self._jobs.one(row)

    def get_by_key(self, idempotency_key: str) -> Job | None:
        found = self._rows(select(*_STORED).where(JOBS.c.idempotency_key == idempotency_key))
        return self._jobs.one(found[0]) if found else None

    def replace(self, job: Job) -> bool:
        values = columns(job)
        if job.lease is not None:
            # The lease may have been renewed since the caller read the job.
            renewed = and_(
                JOBS.c.token == job.token, JOBS.c.lease_expires_at > job.lease.expires_at
            )
            values["lease_expires_at"] = case(
                (renewed, JOBS.c.lease_expires_at), else_=literal(job.lease.expires_at)
            )
        previous = and_(JOBS.c.id == job.id, JOBS.c.version == job.version - 1)
        change = update(JOBS).where(previous).values(values)
        return self._writes.run(lambda connection: connection.execute(change).rowcount == 1)

    def delete(self, job: Job) -> bool:
        current = and_(JOBS.c.id == job.id, JOBS.c.version == job.version)
        removal = delete(JOBS).where(current)
        return self._writes.run(lambda connection: connection.execute(removal).rowcount == 1)

    def claim(
        self, variant: VariantName, *, now: float, limit: int, take: Callable[[Job], Job]
    ) -> list[Job]:
        due = (
            select(*_STORED)
            .where(_queued(variant), JOBS.c.not_before <= now)
            .where(or_(JOBS.c.deadline.is_(None), JOBS.c.deadline > now))
            .order_by(JOBS.c.queue_order, JOBS.c.id)
            .with_for_update(skip_locked=True)
        )

        def write(connection: Connection) -> list[Job]:
            found = self._jobs.first(limit, lambda n: connection.execute(due.limit(n)).all())
            taken = [take(job) for job in found]
            if taken:
                connection.execute(
                    _UPDATE_LOCKED, [columns(job) | {"_id": job.id} for job in taken]
                )
            return taken

        return self._writes.run(write)

    def renew(self, leases: Sequence[tuple[str, int]], *, expires_at: float) -> list[Job]:
        if not leases:
            return []
        extend = (
            update(JOBS)
            .where(JOBS.c.status == "running")
            .where(JOBS.c.id.in_([job_id for job_id, _ in leases]))
            .where(tuple_(JOBS.c.id, JOBS.c.token).in_(leases))
            .values(lease_expires_at=expires_at)
            .returning(*_STORED)
        )
        return self._writes.run(lambda connection: self._jobs.all(connection.execute(extend)))

    def expired(self, *, now: float, limit: int) -> list[Job]:
        return self._reached(JOBS.c.lease_expires_at, now, limit)

    def overdue(self, *, now: float, limit: int) -> list[Job]:
        return self._reached(JOBS.c.deadline, now, limit)

    def ended(self, *, before: float, limit: int) -> list[Job]:
        return self._reached(JOBS.c.completed_at, before, limit)

    def unclean(self, *, now: float, limit: int) -> list[Job]:
        return self._reached(JOBS.c.cleanup_at, now, limit)

    def due_webhooks(self, *, now: float, limit: int) -> list[Job]:
        return self._reached(JOBS.c.webhook_at, now, limit)

    def position(self, job: Job) -> int:
        place = {"variant": job.request.model, "queue_order": queue_order(job), "id": job.id}
        with transaction(self._reader) as connection:
            position: int = connection.execute(_POSITION, place).scalar_one()
        return position

    def queue(self, variant: VariantName, *, limit: int) -> list[str]:
        in_order = (
            select(JOBS.c.id)
            .where(_queued(variant))
            .order_by(JOBS.c.queue_order, JOBS.c.id)
            .limit(limit)
        )
        with transaction(self._reader) as connection:
            return list(connection.execute(in_order).scalars())

    def page(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        variant: VariantName | None = None,
    ) -> list[Job]:
        newest_first = select(*_STORED).order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc())
        if after is not None:
            older = _age < tuple_(literal(after.created_at), literal(after.id))
            newest_first = newest_first.where(older)
        if status is not None:
            newest_first = newest_first.where(JOBS.c.status == status)
        if variant is not None:
            newest_first = newest_first.where(JOBS.c.variant == variant)
        return self._first(limit, newest_first)

    def counts(self) -> QueueCounts:
        grouped = (
            select(JOBS.c.variant, JOBS.c.status, func.count())
            .where(JOBS.c.status.in_(COUNTED))
            .group_by(JOBS.c.variant, JOBS.c.status)
        )
        counts: dict[VariantName, dict[JobStatus, int]] = {
            variant: dict.fromkeys(COUNTED, 0) for variant in VARIANTS
        }
        with transaction(self._reader) as connection:
            for variant, status, count in connection.execute(grouped):
                counts[cast(VariantName, variant)][cast(JobStatus, status)] = count
        return counts

    def next_due(self, variant: VariantName) -> float | None:
        earliest = select(func.min(JOBS.c.not_before)).where(
            _queued(variant), JOBS.c.id.not_in(self._jobs.unreadable)
        )
        with transaction(self._reader) as connection:
            due: float | None = connection.execute(earliest).scalar_one()
        return due

    def close(self) -> None:
        self._writer.dispose()

    def _reached(self, column: Column[Any], time: float, limit: int) -> list[Job]:
        return self._first(limit, select(*_STORED).where(column <= time).order_by(column))

    def _first(self, limit: int, statement: Select[Any]) -> list[Job]:
        return self._jobs.first(limit, lambda n: self._rows(statement.limit(n)))

    def _rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with transaction(self._reader) as connection:
            return connection.execute(statement).all()


_UPDATE_LOCKED = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("_id"))
    .values({column: bindparam(column.name) for column in JOBS.c if not column.primary_key})
)


def _queued(variant: VariantName) -> ColumnElement[bool]:
    return and_(JOBS.c.variant == variant, JOBS.c.status == "queued")
