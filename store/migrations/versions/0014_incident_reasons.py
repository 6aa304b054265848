"""By what an alert belongs to its incident, and stand-ins on call."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "incident_reasons"
down_revision = "text_of_any_length"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("reason", sa.Text, nullable=False, server_default="")
    op.add_column("incident_alerts", column)
    op.create_table(
        "on_call_overrides",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("schedule", sa.Text, nullable=False),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("starts_ms", sa.BigInteger, nullable=False),
        sa.Column("ends_ms", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("on_call_overrides")
    op.drop_column("incident_alerts", "reason")
