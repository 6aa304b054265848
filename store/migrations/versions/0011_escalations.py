"""Escalations that run, and silences that come again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "escalations"
down_revision = "finding_life"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert_escalations",
        sa.Column("lane", sa.String(512), primary_key=True),
        sa.Column("policy", sa.String(128), nullable=False),
        sa.Column("first_id", sa.String(64), nullable=False),
        sa.Column("first", sa.JSON, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("next_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("told", sa.JSON, nullable=False),
    )
    op.create_table(
        "alert_recurring_silences",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("matchers", sa.JSON, nullable=False),
        sa.Column("windows", sa.JSON, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_alert_outbox_dedup_key", "alert_outbox", ["dedup_key"])


def downgrade() -> None:
    op.drop_index("ix_alert_outbox_dedup_key", "alert_outbox")
    op.drop_table("alert_recurring_silences")
    op.drop_table("alert_escalations")
