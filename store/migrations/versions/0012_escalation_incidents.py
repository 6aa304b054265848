"""Which incidents an escalation runs for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "escalation_incidents"
down_revision = "escalations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("incidents", sa.JSON, nullable=False, server_default="[]")
    op.add_column("alert_escalations", column)


def downgrade() -> None:
    op.drop_column("alert_escalations", "incidents")
