"""What the SLO room remembers: maintenance, whose events spend no budget."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slo_maintenance",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("slo_id", sa.String(512), nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("ix_slo_maintenance_end_ms", "slo_maintenance", ["end_ms"])


def downgrade() -> None:
    op.drop_table("slo_maintenance")
