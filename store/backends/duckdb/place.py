"""Where a store lies, and whether somebody has it open."""

from __future__ import annotations

from pathlib import Path

from store.backends.duckdb.database import DirectoryLock
from store.errors import StoreUnavailable

FILE_NAME = "telemetry.duckdb"
_FILE_SUFFIXES = {".duckdb", ".db"}


def file_of(path: Path) -> Path:
    """The database of a directory; a path that names a database is its own."""
    return path if path.suffix in _FILE_SUFFIXES else path / FILE_NAME


def lock_of(file: Path) -> Path:
    """The lock file beside a database."""
    return file.with_name(file.name + ".lock")


def is_in_use(path: Path) -> bool:
    """Whether a process has the store of this directory open.

    Raises:
        StoreUnavailable: The directory cannot be written.
    """
    try:
        lock = DirectoryLock(lock_of(file_of(path)))
    except StoreUnavailable as exc:
        if isinstance(exc.__cause__, BlockingIOError):
            return True
        raise
    lock.release()
    return False
