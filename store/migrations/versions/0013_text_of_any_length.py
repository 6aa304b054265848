"""PostgreSQL holds text of any length, as SQLite always did: a long label must not stop a tick."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "text_of_any_length"
down_revision = "escalation_incidents"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    schema = sa.inspect(connection)
    for table in schema.get_table_names():
        for column in schema.get_columns(table):
            if isinstance(column["type"], sa.String) and column["type"].length is not None:
                op.alter_column(table, column["name"], type_=sa.Text())


def downgrade() -> None:
    """Nothing: what is longer by now would not fit."""
