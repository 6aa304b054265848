"""What is accepted only for a while is found by its end, not by reading every finding."""

from __future__ import annotations

from alembic import op

revision = "ends_of_suppressions"
down_revision = "incident_reasons"
branch_labels = None
depends_on = None

_INDEX = "ix_findings_suppress_until_ms"


def upgrade() -> None:
    op.create_index(_INDEX, "findings", ["suppress_until_ms"])


def downgrade() -> None:
    op.drop_index(_INDEX, "findings")
