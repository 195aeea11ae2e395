"""Jobs in a SQL database: SQLite by default, PostgreSQL by URL."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import Job, JobStatus, VariantName
from sa_ray.errors import ConflictError, QueueFullError
from sa_ray.jobs.port import Cursor, QueueCounts
from sa_ray.jobs.sql_engine import create_job_engine, reading, transaction
from sa_ray.jobs.sql_schema import JOBS, SCHEMA_VERSION, migrate

QUEUE_FULL_RETRY_AFTER_S = 10
"""A place in the queue frees with the next lease, typically after one batch."""

_STORED = (JOBS.c.body, JOBS.c.lease_expires_at)
_order = tuple_(JOBS.c.created_at, JOBS.c.id)


class SqlJobStore:
    """A ``JobStore`` over SQLAlchemy. Opening it brings the schema up to date.

    Every method raises ``StorageError`` when the database refuses; ``transient`` says whether
    trying again can help.
    """

    def __init__(self, url: str) -> None:
        self._writer = create_job_engine(url)
        self._reader = reading(self._writer)
        # SQLite has one writer at a time, and those who wait for it sleep in growing steps
        # instead of queueing; within a process a lock is faster and fair.
        self._turn: AbstractContextManager[Any] = (
            threading.Lock() if self._writer.dialect.name == "sqlite" else nullcontext()
        )
        try:
            with self._writing() as connection:
                migrate(connection)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        with self._writing() as connection:
            connection.execute(update(SCHEMA_VERSION).values(version=SCHEMA_VERSION.c.version))

    def insert(self, job: Job, *, max_queued: int) -> None:
        queued = select(func.count()).select_from(JOBS).where(JOBS.c.status == "queued")
        with self._writing() as connection:
            connection.execute(select(SCHEMA_VERSION.c.version).with_for_update())
            if connection.execute(queued).scalar_one() >= max_queued:
                raise QueueFullError(
                    f"The queue is full: {max_queued} jobs wait already, the limit that "
                    f"STABLE_AUDIO_MAX_QUEUED_JOBS sets. Try again in "
                    f"{QUEUE_FULL_RETRY_AFTER_S} seconds.",
                    retry_after_s=QUEUE_FULL_RETRY_AFTER_S,
                )
            try:
                connection.execute(insert(JOBS).values(_columns(job)))
            except IntegrityError:
                raise ConflictError(f"Job {job.id} exists already.") from None

    def get(self, job_id: str) -> Job | None:
        with transaction(self._reader) as connection:
            row = connection.execute(select(*_STORED).where(JOBS.c.id == job_id)).one_or_none()
        return None if row is None else _job(*row)

    def replace(self, job: Job) -> bool:
        columns = _columns(job)
        if job.lease is not None:
            # The lease may have been renewed since the caller read the job.
            renewed = and_(
                JOBS.c.token == job.token, JOBS.c.lease_expires_at > job.lease.expires_at
            )
            columns["lease_expires_at"] = case(
                (renewed, JOBS.c.lease_expires_at), else_=literal(job.lease.expires_at)
            )
        previous = and_(JOBS.c.id == job.id, JOBS.c.version == job.version - 1)
        with self._writing() as connection:
            return connection.execute(update(JOBS).where(previous).values(columns)).rowcount == 1

    def delete(self, job: Job) -> bool:
        current = and_(JOBS.c.id == job.id, JOBS.c.version == job.version)
        with self._writing() as connection:
            return connection.execute(delete(JOBS).where(current)).rowcount == 1

    def claim(
        self, variant: VariantName, *, now: float, limit: int, take: Callable[[Job], Job]
    ) -> list[Job]:
        due = (
            select(*_STORED)
            .where(_queued(variant), JOBS.c.not_before <= now)
            .order_by(JOBS.c.created_at, JOBS.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._writing() as connection:
            taken = [take(_job(*row)) for row in connection.execute(due)]
            if taken:
                connection.execute(
                    _UPDATE_LOCKED, [_columns(job) | {"_id": job.id} for job in taken]
                )
        return taken

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
        with self._writing() as connection:
            return [_job(*row) for row in connection.execute(extend)]

    def expired(self, *, now: float, limit: int) -> list[Job]:
        over = (
            select(*_STORED)
            .where(JOBS.c.lease_expires_at <= now)
            .order_by(JOBS.c.lease_expires_at)
            .limit(limit)
        )
        return self._jobs(over)

    def position(self, job: Job) -> int:
        ahead = _order <= tuple_(literal(job.created_at), literal(job.id))
        count = select(func.count()).select_from(JOBS).where(_queued(job.request.model), ahead)
        with transaction(self._reader) as connection:
            return connection.execute(count).scalar_one()

    def page(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        variant: VariantName | None = None,
    ) -> list[Job]:
        newest_first = (
            select(*_STORED).order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc()).limit(limit)
        )
        if after is not None:
            older = _order < tuple_(literal(after.created_at), literal(after.id))
            newest_first = newest_first.where(older)
        if status is not None:
            newest_first = newest_first.where(JOBS.c.status == status)
        if variant is not None:
            newest_first = newest_first.where(JOBS.c.variant == variant)
        return self._jobs(newest_first)

    def counts(self) -> QueueCounts:
        """How many jobs stand in each status, by variant; zeros included."""
        grouped = select(JOBS.c.variant, JOBS.c.status, func.count()).group_by(
            JOBS.c.variant, JOBS.c.status
        )
        counts: dict[VariantName, dict[JobStatus, int]] = {
            variant: dict.fromkeys(get_args(JobStatus), 0) for variant in VARIANTS
        }
        with transaction(self._reader) as connection:
            for variant, status, count in connection.execute(grouped):
                counts[cast(VariantName, variant)][cast(JobStatus, status)] = count
        return counts

    def next_due(self, variant: VariantName) -> float | None:
        earliest = select(func.min(JOBS.c.not_before)).where(_queued(variant))
        with transaction(self._reader) as connection:
            due: float | None = connection.execute(earliest).scalar_one()
        return due

    def close(self) -> None:
        self._writer.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._turn, transaction(self._writer) as connection:
            yield connection

    def _jobs(self, statement: Any) -> list[Job]:
        with transaction(self._reader) as connection:
            rows = connection.execute(statement).all()
        return [_job(*row) for row in rows]


_UPDATE_LOCKED = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("_id"))
    .values({column: bindparam(column.name) for column in JOBS.c if not column.primary_key})
)


def _queued(variant: VariantName) -> ColumnElement[bool]:
    return and_(JOBS.c.variant == variant, JOBS.c.status == "queued")


def _columns(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "variant": job.request.model,
        "status": job.status,
        "created_at": job.created_at,
        "not_before": job.not_before,
        "lease_expires_at": None if job.lease is None else job.lease.expires_at,
        "token": job.token,
        "version": job.version,
        "body": job.model_dump_json(),
    }


def _job(body: str, lease_expires_at: float | None) -> Job:
    job = Job.model_validate_json(body)
    if job.lease is None or job.lease.expires_at == lease_expires_at:
        return job
    lease = job.lease.model_copy(update={"expires_at": lease_expires_at})
    return job.model_copy(update={"lease": lease})
