"""Jobs in Redis 6.2 or later (or a compatible server).

Redis must write its append-only file before it answers (``appendonly yes`` and
``appendfsync always``), or jobs it acknowledged can be lost with its process. It must not evict
(``maxmemory-policy noeviction``). A store that finds other settings logs a warning.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,  # noqa: A004 - its own
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - its own
)
from redis.retry import Retry

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import Job, JobStatus, VariantName
from sa_ray.errors import ConfigurationError, ConflictError, JobStoreError
from sa_ray.jobs.api import Cursor, QueueCounts
from sa_ray.jobs.lifecycle import queue_order
from sa_ray.jobs.stores.port import COUNTED, queue_full
from sa_ray.jobs.stores.redis_store import scripts
from sa_ray.jobs.stores.rows import JobReader, StoredRow, columns

logger = logging.getLogger(__name__)

SETTING = "STABLE_AUDIO_JOBS_URL"
PREFIX = "{sa-ray}:"
SCHEMA = 1
"""Version of the layout that ``scripts`` describes."""

MAX_CONNECTIONS = 32
CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 10
MAX_CLAIM_ROUNDS = 50

_PASSING_REFUSALS = re.compile(r"\b(OOM|MISCONF|BUSY|LOADING|READONLY|MASTERDOWN|NOREPLICAS)\b")
"""Error codes of Redis that may pass; those met by a script come inside a longer message."""


class RedisJobStore:
    """A ``JobStore``; every change is one script, so that it happens wholly or not at all.

    Every method raises ``JobStoreError`` when the server refuses or cannot be reached;
    ``transient`` says whether trying again can help.
    """

    def __init__(self, url: str) -> None:
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=MAX_CONNECTIONS,
                timeout=ANSWER_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=ANSWER_TIMEOUT_S,
                health_check_interval=30,
                retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
            )
        except ValueError:
            raise ConfigurationError(
                f"{SETTING} is not a Redis URL; write it like redis://:password@host:6379/0.",
                param=SETTING,
            ) from None
        self._redis = redis.Redis(connection_pool=pool)
        self._jobs = JobReader()
        self._where = _without_password(pool)
        register = self._redis.register_script
        self._insert = register(scripts.INSERT)
        self._replace = register(scripts.REPLACE)
        self._delete = register(scripts.DELETE)
        self._due = register(scripts.DUE)
        self._renew = register(scripts.RENEW)
        self._get = register(scripts.GET)
        self._get_by_key = register(scripts.GET_BY_KEY)
        self._reached = register(scripts.REACHED)
        self._position = register(scripts.POSITION)
        self._page = register(scripts.PAGE)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        with self._answering():
            self._redis.set(f"{PREFIX}check", "1")

    def insert(self, job: Job, *, max_queued: int) -> None:
        match self._run(self._insert, *_row(job), max_queued):
            case b"full":
                raise queue_full(max_queued)
            case b"taken":
                raise ConflictError(f"Job {job.id} or its idempotency key exists already.")

    def get(self, job_id: str) -> Job | None:
        return self._one(self._get, job_id)

    def get_by_key(self, idempotency_key: str) -> Job | None:
        return self._one(self._get_by_key, idempotency_key)

    def replace(self, job: Job) -> bool:
        return bool(self._run(self._replace, *_row(job)) == [1])

    def delete(self, job: Job) -> bool:
        return bool(self._run(self._delete, job.id, job.version))

    def claim(
        self, variant: VariantName, *, now: float, limit: int, take: Callable[[Job], Job]
    ) -> list[Job]:
        claimed: list[Job] = []
        # Another claimer may take some of these first; in each round somebody makes progress.
        for _ in range(MAX_CLAIM_ROUNDS):
            due = self._jobs.first(
                limit - len(claimed), lambda n: self._rows(self._due, variant, repr(now), n)
            )
            if not due:
                break
            taken = [take(job) for job in due]
            stored = self._run(self._replace, *(part for job in taken for part in _row(job)))
            claimed += [job for job, done in zip(taken, stored, strict=True) if done]
            if len(claimed) >= limit:
                break
        return claimed

    def renew(self, leases: Sequence[tuple[str, int]], *, expires_at: float) -> list[Job]:
        if not leases:
            return []
        parts = (part for one in leases for part in one)
        return self._jobs.all(self._rows(self._renew, repr(expires_at), *parts))

    def expired(self, *, now: float, limit: int) -> list[Job]:
        return self._first("leases", now, limit)

    def overdue(self, *, now: float, limit: int) -> list[Job]:
        return self._first("deadlines", now, limit)

    def ended(self, *, before: float, limit: int) -> list[Job]:
        return self._first("ended", before, limit)

    def unclean(self, *, now: float, limit: int) -> list[Job]:
        return self._first("cleanup", now, limit)

    def due_webhooks(self, *, now: float, limit: int) -> list[Job]:
        return self._first("webhooks", now, limit)

    def position(self, job: Job) -> int:
        place = (job.request.model, repr(queue_order(job)), job.id)
        return cast(int, self._run(self._position, *place))

    def queue(self, variant: VariantName, *, limit: int) -> list[str]:
        with self._answering():
            ids: Any = self._redis.zrange(f"{PREFIX}queue:{variant}", 0, limit - 1)
        return [job_id.decode() for job_id in ids]

    def page(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        variant: VariantName | None = None,
    ) -> list[Job]:
        by_age = ":".join(["age", *(part for part in (variant, status) if part)])
        cursor = () if after is None else (repr(after.created_at), after.id)
        return self._jobs.first(limit, lambda n: self._rows(self._page, by_age, n, *cursor))

    def counts(self) -> QueueCounts:
        with self._answering(), self._redis.pipeline(transaction=True) as pipeline:
            for variant in VARIANTS:
                for status in COUNTED:
                    pipeline.zcard(f"{PREFIX}age:{variant}:{status}")
            sizes = iter(pipeline.execute())
        return {variant: {status: next(sizes) for status in COUNTED} for variant in VARIANTS}

    def next_due(self, variant: VariantName) -> float | None:
        unreadable = self._jobs.unreadable
        with self._answering():
            first: Any = self._redis.zrange(
                f"{PREFIX}due:{variant}", 0, len(unreadable), withscores=True
            )
        return next(
            (float(due) for job_id, due in first if job_id.decode() not in unreadable), None
        )

    def close(self) -> None:
        self._redis.connection_pool.disconnect()

    def _open(self) -> None:
        with self._answering():
            self._redis.set(f"{PREFIX}schema", SCHEMA, nx=True)
            version = int(cast(bytes, self._redis.get(f"{PREFIX}schema")))
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

    def _one(self, script: Any, name: str) -> Job | None:
        rows = self._rows(script, name)
        return self._jobs.one(rows[0]) if rows else None

    def _rows(self, script: Any, *args: Any) -> list[StoredRow]:
        return cast(list[StoredRow], self._run(script, *args))

    def _run(self, script: Any, *args: Any) -> Any:
        with self._answering():
            return script(keys=[PREFIX], args=args)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise JobStoreError(
                f"The job store {self._where} failed: {error}", transient=_is_passing(error)
            ) from error


def _row(job: Job) -> tuple[str, str]:
    """Return the columns as JSON of strings, without those that are None, and the body."""
    values = columns(job)
    body = values.pop("body")
    texts = {
        name: repr(value) if isinstance(value, float) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return json.dumps(texts), body


def _is_passing(error: RedisError) -> bool:
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, ResponseError) and bool(_PASSING_REFUSALS.search(str(error)))


def _without_password(pool: "redis.ConnectionPool") -> str:
    to = pool.connection_kwargs
    if "path" in to:
        return f"unix://{to['path']}"
    return f"redis://{to.get('host', 'localhost')}:{to.get('port', 6379)}/{to.get('db', 0)}"
