"""What the business metrics remember: when a figure's rule was met."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "business_breaches",
        sa.Column("kpi", sa.String(64), primary_key=True),
        sa.Column("start_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("end_ms", sa.BigInteger),
        sa.Column("severity", sa.String(16), nullable=False),
    )
    op.create_index("ix_business_breaches_end_ms", "business_breaches", ["end_ms"])


def downgrade() -> None:
    op.drop_table("business_breaches")
