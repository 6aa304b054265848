"""Boards that were edited in the browser."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "boards"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "boards",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tag", sa.String(32), nullable=False),
        sa.Column("saved_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("boards")
