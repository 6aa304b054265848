"""Load tests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "loadtests"
down_revision = "boards"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "load_tests",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger, nullable=False),
        sa.Column("target_multiple", sa.Float, nullable=True),
        sa.Column("url", sa.String(2048), nullable=False, server_default=""),
        sa.Column("stages", sa.Text, nullable=False),
        sa.Column("figures", sa.Text, nullable=False),
    )
    op.create_index("ix_load_tests_started_ms", "load_tests", ["started_ms"])
    op.create_index("ix_load_tests_ended_ms", "load_tests", ["ended_ms"])


def downgrade() -> None:
    op.drop_table("load_tests")
