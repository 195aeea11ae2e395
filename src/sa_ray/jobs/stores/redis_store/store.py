"""Jobs in Redis 6.2 or later (or a compatible server).

Redis must write its append-only file before it answers (``appendonly yes`` and
``appendfsync always``), or jobs it acknowledged can be lost with its process. It must not evict
(``maxmemory-policy noeviction``). A store that finds other settings logs a warning.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import redis
from redis.exceptions import RedisError

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import Job, JobStatus, UsageRow, VariantName
from sa_ray.errors import JobStoreError
from sa_ray.jobs.api import Cursor, JobSnapshot, QueueCounts
from sa_ray.jobs.stores.port import COUNTED, QUEUE_HORIZON, HeldLease, Password
from sa_ray.jobs.stores.redis_store import scripts, usage
from sa_ray.jobs.stores.redis_store.connection import (
    create_pool,
    is_passing,
    is_read_only,
    without_password,
)
from sa_ray.jobs.stores.redis_store.migrations import MIGRATIONS
from sa_ray.jobs.stores.rows import JobReader, StoredRow, columns

logger = logging.getLogger(__name__)

PREFIX = "{sa-ray}:"
SCHEMA = 4
"""Version of the layout that ``scripts`` describes."""

MAX_CLAIM_ROUNDS = 50


class RedisJobStore:
    """A ``JobStore``; every change is one script, so that it happens wholly or not at all.

    Every method raises ``JobStoreError`` when the server refuses or cannot be reached;
    ``transient`` says whether trying again can help.
    """

    def __init__(self, url: str, password: Password | None = None) -> None:
        self._pool = partial(create_pool, url, password)
        self._redis = redis.Redis(connection_pool=self._pool())
        self._jobs = JobReader()
        self._where = without_password(self._redis.connection_pool)
        register = self._redis.register_script
        self._insert = register(scripts.INSERT)
        self._replace = register(scripts.REPLACE)
        self._delete = register(scripts.DELETE)
        self._due = register(scripts.DUE)
        self._renew = register(scripts.RENEW)
        self._leases = register(scripts.LEASES)
        self._forget_worker = register(scripts.FORGET_WORKER)
        self._get = register(scripts.GET)
        self._snapshots = register(scripts.SNAPSHOTS)
        self._get_by_key = register(scripts.GET_BY_KEY)
        self._reached = register(scripts.REACHED)
        self._first_of = register(scripts.FIRST)
        self._page = register(scripts.PAGE)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        with self._answering() as client:
            client.set(f"{PREFIX}check", "1")

    def insert_all(self, jobs: Sequence[Job]) -> list[bool]:
        rows = (part for job in jobs for part in row(job))
        return [stored == 1 for stored in self._run(self._insert, *rows)]

    def get(self, job_id: str) -> Job | None:
        return self._one(self._get, job_id)

    def snapshots(self, job_ids: Sequence[str]) -> dict[str, JobSnapshot | JobStoreError]:
        found = {}
        for job_id, body, ahead in self._run(self._snapshots, *job_ids):
            place = None if ahead is None else min(ahead + 1, QUEUE_HORIZON)
            found[job_id.decode()] = self._jobs.snapshot((job_id, body), place)
        return found

    def get_by_key(self, owner: str, idempotency_key: str) -> Job | None:
        return self._one(self._get_by_key, owner, idempotency_key)

    def replace(self, job: Job) -> bool:
        return bool(self._run(self._replace, "", "", *row(job)) == [1])

    def delete(self, job: Job) -> bool:
        return bool(self._run(self._delete, job.id, job.version))

    def claim(
        self,
        variant: VariantName,
        worker: str,
        *,
        now: float,
        limit: int,
        take: Callable[[Job], Job],
    ) -> list[Job]:
        claimed: list[Job] = []
        if limit <= 0:
            return claimed
        # Another claimer may take some of these first; in each round somebody makes progress.
        for _ in range(MAX_CLAIM_ROUNDS):
            due = self._jobs.first(
                limit - len(claimed), lambda n: self._rows(self._due, variant, repr(now), n)
            )
            if not due:
                break
            taken = [take(job) for job in due]
            rows = (part for job in taken for part in row(job))
            stored = self._run(self._replace, worker, repr(now), *rows)
            claimed += [job for job, done in zip(taken, stored, strict=True) if done]
            if len(claimed) >= limit:
                break
        return claimed

    def renew(self, worker: str, *, now: float) -> list[HeldLease]:
        return [_lease(row) for row in self._run(self._renew, worker, repr(now))]

    def heartbeats(self) -> dict[str, float]:
        with self._answering() as client:
            found: Any = client.hgetall(f"{PREFIX}workers")
        return {worker.decode(): float(heartbeat) for worker, heartbeat in found.items()}

    def leases(self, worker: str) -> list[HeldLease]:
        return [_lease(row) for row in self._run(self._leases, worker)]

    def forget_worker(self, worker: str, heartbeat: float) -> None:
        self._run(self._forget_worker, worker, repr(heartbeat))

    def overdue(self, *, now: float, limit: int) -> list[Job]:
        return self._first("deadlines", now, limit)

    def ended(self, *, before: float, limit: int) -> list[Job]:
        return self._first("ended", before, limit)

    def unclean(self, *, now: float, limit: int) -> list[Job]:
        return self._first("cleanup", now, limit)

    def due_webhooks(self, *, now: float, limit: int) -> list[Job]:
        return self._first("webhooks", now, limit)

    def queue(self, variant: VariantName, *, limit: int) -> list[str]:
        with self._answering() as client:
            ids: Any = client.zrange(f"{PREFIX}queue:{variant}", 0, limit - 1)
        return [job_id.decode() for job_id in ids]

    def next_jobs(self, variant: VariantName, *, limit: int) -> list[Job]:
        queue = f"queue:{variant}"
        return self._jobs.first(limit, lambda n: self._rows(self._first_of, queue, n))

    def page(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        owner: str | None = None,
    ) -> list[Job]:
        by_age = "age" if owner is None else f"age/{owner}"
        by_age += f":{status}" if status else ""
        cursor = () if after is None else (repr(after.created_at), after.id)
        return self._jobs.first(limit, lambda n: self._rows(self._page, by_age, n, *cursor))

    def counts(self) -> QueueCounts:
        with self._answering() as client, client.pipeline(transaction=True) as pipeline:
            for variant in VARIANTS:
                pipeline.zcard(f"{PREFIX}queue:{variant}")
                pipeline.scard(f"{PREFIX}running:{variant}")
            sizes = iter(pipeline.execute())
        return {variant: {status: next(sizes) for status in COUNTED} for variant in VARIANTS}

    def queued_of(self, owner: str) -> int:
        with self._answering() as client:
            found: Any = client.zcard(f"{PREFIX}age/{owner}:queued")
        return int(found)

    def next_due(self, variant: VariantName) -> float | None:
        def earliest(limit: int) -> list[tuple[str, float]]:
            with self._answering() as client:
                found: Any = client.zrange(f"{PREFIX}due:{variant}", 0, limit - 1, withscores=True)
            return [(job_id.decode(), float(due)) for job_id, due in found]

        return self._jobs.first_readable(earliest)

    def secret(self, name: str, fresh: str) -> str:
        with self._answering() as client:
            client.hsetnx(f"{PREFIX}secrets", name, fresh)
            return cast(bytes, client.hget(f"{PREFIX}secrets", name)).decode()

    def add_usage(self, rows: Sequence[UsageRow]) -> None:
        with self._answering() as client:
            usage.add(client, PREFIX, rows)

    def usage(self, first: str, last: str, owner: str | None) -> list[UsageRow]:
        with self._answering() as client:
            return usage.read(client, PREFIX, first, last, owner)

    def close(self) -> None:
        self._redis.connection_pool.disconnect()

    def _open(self) -> None:
        with self._answering() as client:
            client.set(f"{PREFIX}schema", SCHEMA, nx=True)
            for step in MIGRATIONS:
                client.register_script(step)(keys=[PREFIX])
            version = int(cast(bytes, client.get(f"{PREFIX}schema")))
        if version > SCHEMA:
            raise JobStoreError(
                f"The jobs in {self._where} have schema version {version}, and this release "
                f"knows {SCHEMA}: run the release that wrote it, or a later one.",
                transient=False,
            )
        self._warn_if_not_durable()

    def _warn_if_not_durable(self) -> None:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        for name, value in wanted.items():
            try:
                found = cast(dict[str, str], self._redis.config_get(name)).get(name)
            except RedisError:
                return  # managed servers keep CONFIG to themselves
            if found is not None and found != value:
                logger.warning(
                    "%s has %s %s: acknowledged jobs can be lost; set it to %s",
                    self._where,
                    name,
                    found,
                    value,
                )

    def _first(self, times: str, until: float, limit: int) -> list[Job]:
        return self._jobs.first(limit, lambda n: self._rows(self._reached, times, repr(until), n))

    def _one(self, script: Any, *names: str) -> Job | None:
        rows = self._rows(script, *names)
        return self._jobs.one(rows[0]) if rows else None

    def _rows(self, script: Any, *args: Any) -> list[StoredRow]:
        return cast(list[StoredRow], self._run(script, *args))

    def _run(self, script: Any, *args: Any) -> Any:
        with self._answering() as client:
            return script(keys=[PREFIX], args=args, client=client)

    @contextmanager
    def _answering(self) -> Iterator["redis.Redis"]:
        client = self._redis
        try:
            yield client
        except RedisError as error:
            if is_read_only(error) and client is self._redis:
                # The server was demoted: whatever the address leads to now is found by connecting
                # anew. Calls under way end on the connections that they have.
                self._redis = redis.Redis(connection_pool=self._pool())
            raise JobStoreError(
                f"The job store {self._where} failed: {error}", transient=is_passing(error)
            ) from error


def row(job: Job) -> tuple[str, str]:
    """Return the columns as JSON of strings, without those that are None, and the body."""
    values = columns(job) | {"priority": job.priority, "work": job.work}
    body = values.pop("body")
    texts = {
        name: repr(value) if isinstance(value, float) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return json.dumps(texts), body


def _lease(row: list[bytes]) -> HeldLease:
    job_id, token, stop_at = row
    return HeldLease(job_id.decode(), int(token), float(stop_at) if stop_at else None)
