"""What lies in the store and may belong to nobody."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261130_leftovers"
down_revision: str | None = "20261129_completions"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "leftovers",
        sa.Column("prefix", sa.String(length=255), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("prefix", name="pk_leftovers"),
    )
    op.create_index("ix_leftovers_due_at", "leftovers", ["due_at"])


def downgrade() -> None:
    op.drop_table("leftovers")
