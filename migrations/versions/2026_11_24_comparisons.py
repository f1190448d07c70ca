"""Comparisons with their members, and the jobs that make their tables."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "20261124_comparisons"
down_revision: str | None = "20261124_job_kinds"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
BEFORE = "('distillation','probe')"
AFTER = "('distillation','probe','table')"


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    clock = sa.text("clock_timestamp()" if on_postgresql else "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')")
    _allow(AFTER)
    op.create_table(
        "comparisons",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120)),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("baseline", sa.String(length=64), nullable=False),
        sa.Column("budget", JSON, nullable=False),
        sa.Column("table_job_id", sa.String(length=40)),
        sa.Column("cancelled_at", TIME),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_comparisons_tenant_id_tenants"),
        sa.ForeignKeyConstraint(["table_job_id"], ["jobs.id"], name="fk_comparisons_table_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_comparisons"),
        sa.UniqueConstraint("table_job_id", name="uq_comparisons_table_job_id"),
    )
    op.create_index("ix_comparisons_tenant_id_created_at_id", "comparisons", ["tenant_id", "created_at", "id"])
    op.create_table(
        "comparison_members",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("comparison_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_comparison_members_job_id_jobs", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparisons.id"],
            name="fk_comparison_members_comparison_id_comparisons",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", name="pk_comparison_members"),
        sa.UniqueConstraint("comparison_id", "label", "seed", name="uq_comparison_members_comparison_id_label_seed"),
    )


def downgrade() -> None:
    op.drop_table("comparison_members")
    op.drop_table("comparisons")
    # On SQLite nothing cascades while a migration runs.
    for table in ("job_attempts", "job_events", "job_metrics", "artifacts"):
        op.execute(f"DELETE FROM {table} WHERE job_id IN (SELECT id FROM jobs WHERE kind = 'table')")  # noqa: S608 - literals
    op.execute("DELETE FROM jobs WHERE kind = 'table'")
    _allow(BEFORE)


def _allow(kinds: str) -> None:
    """Let `jobs.kind` be any of these. SQLite changes no constraint in place, and a table made anew would lose its trigger: the
    column is made anew instead.
    """
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE jobs DROP CONSTRAINT ck_jobs_kind")
        op.execute(f"ALTER TABLE jobs ADD CONSTRAINT ck_jobs_kind CHECK (kind IN {kinds})")
        return
    op.execute(
        "ALTER TABLE jobs ADD COLUMN kind_anew VARCHAR(16) DEFAULT 'distillation' NOT NULL "
        f"CONSTRAINT ck_jobs_kind CHECK (kind_anew IN {kinds})"
    )
    op.execute("UPDATE jobs SET kind_anew = kind")
    op.execute("ALTER TABLE jobs DROP COLUMN kind")
    op.execute("ALTER TABLE jobs RENAME COLUMN kind_anew TO kind")
