"""What a job is for: a distillation, or a probe that only forecasts one."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "20261124_job_kinds"
down_revision: str | None = "20261124_worker_devices"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Batch mode would make the table anew on SQLite, without its trigger; this both databases do in place.
    op.execute(
        "ALTER TABLE jobs ADD COLUMN kind VARCHAR(16) DEFAULT 'distillation' NOT NULL "
        "CONSTRAINT ck_jobs_kind CHECK (kind IN ('distillation','probe'))"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE jobs DROP COLUMN kind")
