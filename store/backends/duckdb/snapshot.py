"""A consistent copy of the database while it runs.

DuckDB copies table by table within one reading transaction: writing goes on meanwhile, and the
copy holds what was committed when it began, in the same row order and without free blocks.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import duckdb

from store.backends.duckdb.database import Connection, Database, unavailable, wal_of
from store.backends.duckdb.writer import Writer
from store.errors import StoreUnavailable

_NAME = "snapshot_copy"


def copy_database(writer: Writer, database: Database, target: Path) -> Path:
    """Copy everything that is committed into a new file, under its final name only when whole.

    Raises:
        StoreUnavailable: The file exists or cannot be written, or another copy is being made.
    """
    if target.exists():
        raise StoreUnavailable(f"{target} exists already", hint="name another directory")
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _forget(partial)
        _copy(writer, partial)
        partial.rename(target)
    except duckdb.Error as exc:
        _forget(partial)
        raise unavailable(exc, f"snapshot {target} of {database.name}") from exc
    except OSError as exc:
        _forget(partial)
        raise StoreUnavailable(
            f"the snapshot {target} cannot be written: {exc.strerror}",
            hint="free space on this disk, or make the directory writable for this user",
        ) from exc
    return target


def _copy(writer: Writer, target: Path) -> None:
    reading, attaching = writer.run(_cursors).result()
    quoted = str(target).replace("'", "''")
    try:
        attaching.execute(f"ATTACH '{quoted}' AS {_NAME}")
        try:
            ((source,),) = reading.execute("SELECT current_database()").fetchall()
            reading.execute(f'COPY FROM DATABASE "{source}" TO {_NAME}')
            reading.execute("COMMIT")
            attaching.execute(f"CHECKPOINT {_NAME}")
        finally:
            reading.close()
            attaching.execute(f"DETACH {_NAME}")
    finally:
        attaching.close()


def _cursors(connection: Connection) -> tuple[Connection, Connection]:
    """One whose transaction sees what is committed now and nothing later; and another."""
    reading = connection.cursor()
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM meta").fetchall()
    return reading, connection.cursor()


def _forget(file: Path) -> None:
    with suppress(OSError):  # what stands in the way is told by the copy itself
        file.unlink(missing_ok=True)
        wal_of(file).unlink(missing_ok=True)
