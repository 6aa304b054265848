"""Runs the migrations over the connection that `store.sql.upgrade` hands in."""

from __future__ import annotations

from alembic import context

from store.sql import Base

connection = context.config.attributes["connection"]
# Batch mode: SQLite cannot alter a column in place.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
