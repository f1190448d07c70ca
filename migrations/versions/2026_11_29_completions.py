"""Questions to models, and which workers answer them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "20261129_completions"
down_revision: str | None = "20261129_web_sessions"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    clock = sa.text("clock_timestamp()" if on_postgresql else "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')")
    op.add_column("workers", sa.Column("serves", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "completions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("source", JSON, nullable=False),
        sa.Column("ask", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("worker_id", sa.String(length=64)),
        sa.Column("lease_until", TIME),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("finish_reason", sa.String(length=8)),
        sa.Column("prompt_tokens", sa.Integer()),
        sa.Column("completion_tokens", sa.Integer()),
        sa.Column("failure_code", sa.String(length=64)),
        sa.Column("failure_message", sa.Text()),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.CheckConstraint("state IN ('queued','running','done','failed')", name=op.f("ck_completions_state")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_completions_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_completions"),
    )
    op.create_index("ix_completions_state_created_at_id", "completions", ["state", "created_at", "id"])
    op.create_index("ix_completions_tenant_id_state", "completions", ["tenant_id", "state"])


def downgrade() -> None:
    op.drop_table("completions")
    op.drop_column("workers", "serves")
