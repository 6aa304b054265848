"""Who changed a finding, and when it was fixed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "finding_life"
down_revision = "slo_policies"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("findings", sa.Column("fixed_ms", sa.BigInteger))
    op.add_column(
        "finding_history",
        sa.Column("actor", sa.String(256), nullable=False, server_default=""),
    )


def downgrade() -> None:
    op.drop_column("finding_history", "actor")
    op.drop_column("findings", "fixed_ms")
