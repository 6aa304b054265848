"""Annotations: deploys, flags, promotions and notes on the timeline."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "annotations",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False, index=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("title", sa.String(512), nullable=False),
        sa.Column("service", sa.String(256), nullable=False, server_default=""),
        sa.Column("version", sa.String(256), nullable=False, server_default=""),
        sa.Column("url", sa.String(2048), nullable=False, server_default=""),
    )


def downgrade() -> None:
    op.drop_table("annotations")
