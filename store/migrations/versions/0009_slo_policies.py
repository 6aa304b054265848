"""Since when, and until when, an error-budget policy's action held."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "slo_policies"
down_revision = "loadtests"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slo_policy_spans",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("policy", sa.String(512), nullable=False),
        sa.Column("slo_id", sa.String(512), nullable=False),
        sa.Column("service", sa.String(512), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("until_ms", sa.BigInteger),
        sa.Column("remaining", sa.Float, nullable=False),
    )
    op.create_index("ix_slo_policy_spans_since_ms", "slo_policy_spans", ["since_ms"])


def downgrade() -> None:
    op.drop_table("slo_policy_spans")
