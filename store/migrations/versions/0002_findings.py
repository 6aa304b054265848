"""Findings and the detectors' cursors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "findings",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False, index=True),
        sa.Column("priority", sa.String(2), nullable=False),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("service", sa.String(256), nullable=False),
        sa.Column("route", sa.String(512), nullable=False),
        sa.Column("occurrences", sa.BigInteger, nullable=False),
        sa.Column("repetitions", sa.BigInteger, nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger, nullable=False, index=True),
        sa.Column("active", sa.Boolean, nullable=False, index=True),
        sa.Column("active_since_ms", sa.BigInteger, nullable=False),
        sa.Column("suppress_reason", sa.String(1024), nullable=False),
        sa.Column("suppress_until_ms", sa.BigInteger),
        sa.Column("suppress_budget", sa.BigInteger),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "finding_history",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("finding_id", sa.String(64), nullable=False, index=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("detail", sa.String(1024), nullable=False),
    )
    op.create_table(
        "detector_cursor",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("detector_cursor")
    op.drop_table("finding_history")
    op.drop_table("findings")
