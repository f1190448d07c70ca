"""Log-ins to the dashboard."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261129_web_sessions"
down_revision: str | None = "20261129_webhooks"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    clock = sa.text("clock_timestamp()" if on_postgresql else "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')")
    op.create_table(
        "web_sessions",
        sa.Column("token_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["prefix"], ["api_keys.prefix"], name="fk_web_sessions_prefix_api_keys", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_web_sessions"),
    )
    op.create_index("ix_web_sessions_prefix", "web_sessions", ["prefix"])
    op.create_index("ix_web_sessions_expires_at", "web_sessions", ["expires_at"])


def downgrade() -> None:
    op.drop_table("web_sessions")
