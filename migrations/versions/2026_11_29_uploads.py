"""Data sets that expire, and files that come in parts."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261129_uploads"
down_revision: str | None = "20261124_comparisons"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    clock = sa.text("clock_timestamp()" if on_postgresql else "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')")
    op.add_column("datasets", sa.Column("expires_at", TIME))
    op.create_index("ix_datasets_expires_at", "datasets", ["expires_at"])
    op.create_table(
        "parted_uploads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("keep_s", sa.Float()),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=40)),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending','completed','cancelled','expired')", name=op.f("ck_parted_uploads_state")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_parted_uploads_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_parted_uploads"),
    )
    op.create_index("ix_parted_uploads_tenant_id_state", "parted_uploads", ["tenant_id", "state"])
    op.create_index("ix_parted_uploads_state_expires_at", "parted_uploads", ["state", "expires_at"])
    op.create_table(
        "upload_parts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("upload_id", sa.String(length=40), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, server_default=clock, nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["parted_uploads.id"], name="fk_upload_parts_upload_id_parted_uploads", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_upload_parts"),
    )
    op.create_index("ix_upload_parts_upload_id", "upload_parts", ["upload_id"])


def downgrade() -> None:
    op.drop_table("upload_parts")
    op.drop_table("parted_uploads")
    op.drop_index("ix_datasets_expires_at", "datasets")
    op.drop_column("datasets", "expires_at")
