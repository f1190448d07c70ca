"""The first tables, and the trigger that keeps a finished job finished."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "20261124_first_tables"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
# Foreign keys first to go.
TABLES = (
    "artifacts",
    "job_metrics",
    "job_events",
    "job_attempts",
    "jobs",
    "workers",
    "idempotency_keys",
    "datasets",
    "api_keys",
    "tenants",
)


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    sqlite_clock = "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"
    clock = sa.text("clock_timestamp()" if on_postgresql else sqlite_clock)
    _create_tenants(clock)
    _create_jobs(clock)
    _create_results(clock)
    for statement in POSTGRESQL_TRIGGER if on_postgresql else SQLITE_TRIGGER:
        op.execute(statement)


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION jobs_keep_terminal_state()")


POSTGRESQL_TRIGGER = (
    """
    CREATE FUNCTION jobs_keep_terminal_state() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'job % is %, which never changes', OLD.id, OLD.state USING ERRCODE = 'integrity_constraint_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER jobs_keep_terminal_state BEFORE UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.state IN ('succeeded', 'failed', 'cancelled') AND NEW.state <> OLD.state)
    EXECUTE FUNCTION jobs_keep_terminal_state()
    """,
)
SQLITE_TRIGGER = (
    """
    CREATE TRIGGER jobs_keep_terminal_state BEFORE UPDATE OF state ON jobs FOR EACH ROW
    WHEN OLD.state IN ('succeeded', 'failed', 'cancelled') AND NEW.state <> OLD.state
    BEGIN
        SELECT RAISE(ABORT, 'the state of a finished job never changes');
    END
    """,
)


def _create_tenants(clock: sa.TextClause) -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.UniqueConstraint("name", name="uq_tenants_name"),
    )
    op.create_table(
        "api_keys",
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_api_keys_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("prefix", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant_id"])
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("format", sa.String(length=24), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bad_rows", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("storage_key", sa.String(length=255), nullable=False),
        sa.Column("report", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.Column("deleted_at", TIME),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_datasets_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
    )
    op.create_index("ix_datasets_tenant_id_created_at_id", "datasets", ["tenant_id", "created_at", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("route", sa.String(length=120), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("resource_id", sa.String(length=40)),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_idempotency_keys_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_keys"),
        sa.UniqueConstraint("tenant_id", "route", "key", name="uq_idempotency_keys_tenant_id_route_key"),
    )


def _create_jobs(clock: sa.TextClause) -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120)),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("resolved", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("requested", sa.String(length=8), nullable=False),
        sa.Column("phase", sa.String(length=16)),
        sa.Column("progress", JSON, nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=64)),
        sa.Column("lease_until", TIME),
        sa.Column("heartbeat_at", TIME),
        sa.Column("not_before", TIME),
        sa.Column("ring_at", TIME),
        sa.Column("rings", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("failure_code", sa.String(length=64)),
        sa.Column("failure_message", sa.Text()),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.CheckConstraint("requested IN ('none','pause','cancel')", name=op.f("ck_jobs_requested")),
        sa.CheckConstraint(
            "state IN ('queued','running','paused','succeeded','failed','cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_jobs_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_state_created_at_id", "jobs", ["state", "created_at", "id"])
    op.create_index("ix_jobs_state_lease_until", "jobs", ["state", "lease_until"])
    op.create_index("ix_jobs_state_ring_at", "jobs", ["state", "ring_at"])
    op.create_index("ix_jobs_tenant_id_created_at_id", "jobs", ["tenant_id", "created_at", "id"])
    op.create_table(
        "job_attempts",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=64), nullable=False),
        sa.Column("started_at", TIME, server_default=clock, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("outcome", sa.String(length=16)),
        sa.Column("detail", sa.Text()),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_attempts_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "fence", name="pk_job_attempts"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("started_at", TIME, server_default=clock, nullable=False),
        sa.Column("seen_at", TIME, server_default=clock, nullable=False),
        sa.Column("job_id", sa.String(length=40)),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )


def _create_results(clock: sa.TextClause) -> None:
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("eseq", sa.Integer()),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("at", TIME, server_default=clock, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_events_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_job_events"),
    )
    op.create_index("uq_job_events_job_id_fence_eseq", "job_events", ["job_id", "fence", "eseq"], unique=True)
    op.create_index("ix_job_events_job_id_kind", "job_events", ["job_id", "kind"])
    op.create_table(
        "job_metrics",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("tokens", sa.Integer()),
        sa.Column("at", TIME, server_default=clock, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_metrics_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", "step", name="pk_job_metrics"),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("storage_prefix", sa.String(length=255), nullable=False),
        sa.Column("files", JSON, nullable=False),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer()),
        sa.Column("epoch", sa.Integer()),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.Column("expired_at", TIME),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_artifacts_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
    )
    op.create_index("uq_artifacts_job_id_fence_name", "artifacts", ["job_id", "fence", "name"], unique=True)
