"""The tables of ``SqlJobStore``, and the numbered steps that bring an older file up to date."""

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    MetaData,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from sa_ray.errors import JobStoreError

_METADATA = MetaData()

JOBS = Table(
    "jobs",
    _METADATA,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("queue_order", Double, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("stop_at", Double),
    Column("worker", Text),
    Column("completed_at", Double),
    Column("cleanup_at", Double),
    Column("webhook_at", Double),
    Column("idempotency_key", Text),
    Column("token", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
"""``body`` is the ``Job`` as JSON. The other columns repeat what queries need."""

WORKERS = Table(
    "workers",
    _METADATA,
    Column("id", Text, primary_key=True),
    Column("heartbeat", Double, nullable=False),
)
"""Workers that may hold leases, each with the time of its last heartbeat."""

SECRETS = Table(
    "secrets",
    _METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Secrets that the service has drawn for itself."""

SCHEMA_VERSION = Table("schema_version", _METADATA, Column("version", BigInteger, nullable=False))
"""One row."""

Statement = str | Mapping[str, str]
"""SQL, or SQL by dialect."""

_SHARES_OF_QUEUED = """
    INSERT INTO queue_shares (variant, priority, owner, finish)
    SELECT variant, priority, owner, MAX(created_at) + 0.001 FROM (
        SELECT variant, COALESCE({priority}, 'normal') AS priority, owner, created_at
        FROM jobs WHERE status = 'queued'
    ) AS waiting
    GROUP BY variant, priority, owner
"""

MIGRATIONS: Sequence[Sequence[Statement]] = (
    # Literal SQL: a released step must never change with JOBS.
    (
        """
        CREATE TABLE jobs (
            id TEXT PRIMARY KEY,
            variant TEXT NOT NULL,
            status TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            not_before DOUBLE PRECISION NOT NULL,
            lease_expires_at DOUBLE PRECISION,
            token BIGINT NOT NULL,
            version BIGINT NOT NULL,
            body TEXT NOT NULL
        )
        """,
        # claim, position, next_due, counts (not_before: so that the index answers alone)
        "CREATE INDEX jobs_queue ON jobs (variant, status, created_at, id, not_before)",
        # page by each filter; jobs_status also counts the queue
        "CREATE INDEX jobs_age ON jobs (created_at, id)",
        "CREATE INDEX jobs_status ON jobs (status, created_at, id)",
        "CREATE INDEX jobs_variant ON jobs (variant, created_at, id)",
        # expired
        "CREATE INDEX jobs_lease ON jobs (lease_expires_at) WHERE lease_expires_at IS NOT NULL",
    ),
    # Priority, deadlines, idempotency keys, retention, cleaning up, webhooks.
    (
        "ALTER TABLE jobs ADD COLUMN queue_order DOUBLE PRECISION NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN deadline DOUBLE PRECISION",
        "ALTER TABLE jobs ADD COLUMN completed_at DOUBLE PRECISION",
        "ALTER TABLE jobs ADD COLUMN cleanup_at DOUBLE PRECISION",
        "ALTER TABLE jobs ADD COLUMN webhook_at DOUBLE PRECISION",
        "ALTER TABLE jobs ADD COLUMN idempotency_key TEXT",
        "UPDATE jobs SET queue_order = created_at",
        {
            "sqlite": "UPDATE jobs SET completed_at = json_extract(body, '$.completed_at')",
            "postgresql": "UPDATE jobs SET completed_at = "
            "(body::json ->> 'completed_at')::double precision",
        },
        # Jobs that were leased and ended without a result may have left an object: clean it up.
        """
        UPDATE jobs SET cleanup_at = 0,
            body = substr(body, 1, length(body) - 1) || ',"cleanup_at":0.0}'
        WHERE status IN ('failed', 'cancelled') AND token > 0
        """,
        "DROP INDEX jobs_queue",
        "CREATE INDEX jobs_queue ON jobs (variant, status, queue_order, id, not_before, deadline)",
        "CREATE INDEX jobs_deadline ON jobs (deadline) WHERE deadline IS NOT NULL",
        "CREATE INDEX jobs_ended ON jobs (completed_at) WHERE completed_at IS NOT NULL",
        "CREATE INDEX jobs_cleanup ON jobs (cleanup_at) WHERE cleanup_at IS NOT NULL",
        "CREATE INDEX jobs_webhook ON jobs (webhook_at) WHERE webhook_at IS NOT NULL",
        "CREATE UNIQUE INDEX jobs_key ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL",
    ),
    # Leases of workers; a queue that is read and counted without its bodies, whatever its length.
    (
        "CREATE TABLE workers (id TEXT PRIMARY KEY, heartbeat DOUBLE PRECISION NOT NULL)",
        "ALTER TABLE jobs ADD COLUMN worker TEXT",
        "ALTER TABLE jobs RENAME COLUMN deadline TO stop_at",
        {
            "sqlite": """
            UPDATE jobs SET worker = json_extract(body, '$.lease.worker'),
                stop_at = CASE WHEN json_extract(body, '$.cancel_requested') THEN 0.0
                    ELSE json_extract(body, '$.deadline') END
            WHERE status = 'running'
            """,
            "postgresql": """
            UPDATE jobs SET worker = body::json -> 'lease' ->> 'worker',
                stop_at = CASE WHEN (body::json ->> 'cancel_requested')::boolean THEN 0.0
                    ELSE (body::json ->> 'deadline')::double precision END
            WHERE status = 'running'
            """,
        },
        """
        INSERT INTO workers (id, heartbeat)
        SELECT DISTINCT worker, 0.0 FROM jobs WHERE worker IS NOT NULL
        """,
        "DROP INDEX jobs_lease",
        "ALTER TABLE jobs DROP COLUMN lease_expires_at",
        "CREATE INDEX jobs_worker ON jobs (worker, id, token, stop_at) WHERE worker IS NOT NULL",
        "DROP INDEX jobs_deadline",
        "CREATE INDEX jobs_stop ON jobs (stop_at) WHERE stop_at IS NOT NULL",
        "DROP INDEX jobs_queue",
        """
        CREATE INDEX jobs_queue ON jobs (variant, queue_order, id, not_before, stop_at)
        WHERE status = 'queued'
        """,
        "CREATE INDEX jobs_due ON jobs (variant, not_before) WHERE status = 'queued'",
        "CREATE INDEX jobs_running ON jobs (variant) WHERE status = 'running'",
        "DROP INDEX jobs_variant",
    ),
    # Usage by day.
    (
        """
        CREATE TABLE usage (
            day TEXT NOT NULL,
            owner TEXT NOT NULL,
            variant TEXT NOT NULL,
            requests BIGINT NOT NULL,
            jobs BIGINT NOT NULL,
            clips BIGINT NOT NULL,
            audio_seconds DOUBLE PRECISION NOT NULL,
            gpu_seconds DOUBLE PRECISION NOT NULL,
            accepted_seconds DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (day, owner, variant)
        )
        """,
    ),
    # Owners: those of jobs that there are remain unnamed.
    (
        "ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        "DROP INDEX jobs_key",
        """
        CREATE UNIQUE INDEX jobs_key ON jobs (owner, idempotency_key)
        WHERE idempotency_key IS NOT NULL
        """,
        # page by owner; jobs without a named one are only listed among all
        "CREATE INDEX jobs_owner ON jobs (owner, created_at, id) WHERE owner <> ''",
        "CREATE INDEX jobs_owner_status ON jobs (owner, status, created_at, id) WHERE owner <> ''",
        # whether an owner has more in the queue
        "CREATE INDEX jobs_owned ON jobs (variant, owner) WHERE status = 'queued'",
    ),
    # Fair shares. Those who wait keep their order; later jobs of the same owner come behind them.
    (
        """
        CREATE TABLE queue_positions (
            variant TEXT NOT NULL,
            priority TEXT NOT NULL,
            start DOUBLE PRECISION NOT NULL,
            reached DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (variant, priority)
        )
        """,
        """
        CREATE TABLE queue_shares (
            variant TEXT NOT NULL,
            priority TEXT NOT NULL,
            owner TEXT NOT NULL,
            finish DOUBLE PRECISION NOT NULL,
            claimed DOUBLE PRECISION NOT NULL DEFAULT 0,
            PRIMARY KEY (variant, priority, owner)
        )
        """,
        """
        INSERT INTO queue_positions (variant, priority, start, reached)
        SELECT variant, 'normal', first, first FROM (
            SELECT variant, COALESCE(
                MIN(CASE WHEN status = 'queued' THEN queue_order END), MAX(queue_order)
            ) AS first
            FROM jobs WHERE status IN ('queued', 'running') GROUP BY variant
        ) AS live
        """,
        {
            "sqlite": _SHARES_OF_QUEUED.format(priority="json_extract(body, '$.priority')"),
            "postgresql": _SHARES_OF_QUEUED.format(priority="body::json ->> 'priority'"),
        },
    ),
    ("CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL)",),
)

_MIGRATION_LOCK = 0x5A_52_41_59
"""Key of the PostgreSQL advisory lock; any constant that nothing else in the database uses."""


def migrate(connection: Connection, migrations: Sequence[Sequence[Statement]] = MIGRATIONS) -> None:
    """Apply the steps that the database lacks, in the caller's (write-locked) transaction.

    Raises ``JobStoreError`` if the database was written by a later release.
    """
    if connection.dialect.name == "postgresql":
        # CREATE TABLE IF NOT EXISTS alone fails there when two sessions run it at once.
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    connection.exec_driver_sql(
        "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)"
    )
    version = connection.execute(select(SCHEMA_VERSION.c.version)).scalar()
    if version is None:
        version = 0
        connection.execute(insert(SCHEMA_VERSION).values(version=version))
    if version > len(migrations):
        raise JobStoreError(
            f"The job database has schema version {version}, and this release knows "
            f"{len(migrations)}: run the release that wrote it, or a later one.",
            transient=False,
        )
    for step in migrations[version:]:
        for statement in step:
            if not isinstance(statement, str):
                statement = statement[connection.dialect.name]
            connection.exec_driver_sql(statement)
    connection.execute(update(SCHEMA_VERSION).values(version=len(migrations)))
