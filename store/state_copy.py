"""A consistent copy of the SQLite state database, while others write to it or not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from store.errors import StoreUnavailable

_BUSY_S = 30.0


def copy_state(source: Path, target: Path) -> None:
    """Copy by SQLite's own backup, which holds no writer up for longer than a page.

    Raises:
        StoreUnavailable: The source cannot be read or the target not be written.
    """
    if not source.exists():
        raise StoreUnavailable(
            f"there is no state database at {source}", hint="name the service's data directory"
        )
    try:
        with (
            closing(sqlite3.connect(source, timeout=_BUSY_S)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as exc:
        target.unlink(missing_ok=True)
        raise StoreUnavailable(
            f"the copy of {source} to {target} failed: {exc}",
            hint="free space on this disk, or make the directory writable for this user",
        ) from exc
