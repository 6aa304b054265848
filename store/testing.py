"""What tests of every room use: the real store in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.sql import SessionFactory, open_engine, open_sessions, upgrade


@contextmanager
def open_store(limits: StoreLimits | None = None) -> Iterator[DuckDBStore]:
    """The real store in memory, closed at the end."""
    with DuckDBStore.open(None, limits=limits) as store:
        yield store


def open_state() -> SessionFactory:
    """Sessions of a fresh in-memory SQLite with every table.

    Call `.kw["bind"].dispose()` to let go of it early; it is gone with its last reference.
    """
    engine = open_engine("sqlite://")
    upgrade(engine)
    return open_sessions(engine)
