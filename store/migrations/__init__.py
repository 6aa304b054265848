"""Alembic's environment: how the state's tables came to be."""
