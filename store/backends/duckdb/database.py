"""One DuckDB database: its file lock, its writer connection, and a bounded pool of readers."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.rollback_journal import RollbackJournal, take_back
from store.errors import StoreUnavailable

Connection = duckdb.DuckDBPyConnection
# DuckDB folds its log by itself from this size on: never, for the flush does it when it fits.
CHECKPOINT_THRESHOLD = "1TB"


def proves_damage(exc: duckdb.Error) -> bool:
    """Whether the driver read bytes that cannot be right, rather than was refused something."""
    text = str(exc).lower()
    return any(word in text for word in ("checksum", "corrupt", "not a valid duckdb"))


def unavailable(exc: duckdb.Error, file: str) -> StoreUnavailable:
    """What a driver error means to a caller, with the file and a remedy."""
    text = str(exc)
    lowered = text.lower()
    if any(
        word in lowered
        for word in ("no space", "quota", "disk", "file too large", "could not write")
    ):
        hint = "free space on this disk; writing goes on by itself afterwards"
    elif any(word in lowered for word in ("permission", "read-only", "read only")):
        hint = "make the data directory writable for this user"
    elif proves_damage(exc):
        hint = "the file is damaged: restore a backup, or restart to set it aside"
    elif isinstance(exc, duckdb.OutOfMemoryException):
        hint = "ask for a shorter range or fewer series, or raise the store's memory"
    else:
        hint = "see the log; the same request may succeed later"
    return StoreUnavailable(f"the store {file} failed: {text}", hint=hint)


class DirectoryLock:
    """Holds a lock file beside the database, so that a second process is told who has it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise StoreUnavailable(
                f"cannot write in {file.parent}: {exc.strerror}",
                hint="make the data directory writable for this user, or name another",
            ) from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreUnavailable(
                f"{file.parent} is in use by another Warroom (process {owner})",
                hint="stop that process, or give this one its own data directory",
            ) from exc
        with suppress(OSError):  # the name of the owner is a courtesy; a full disk may refuse it
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


class Database:
    """An open DuckDB file, or one in memory. Reading is safe from any thread.

    A DuckDB connection refuses work while a result of it is unfinished, so each reader borrows a
    cursor of its own. `writer` belongs to the one writing thread.
    """

    def __init__(self, file: Path | None, limits: StoreLimits) -> None:
        self.file = file
        self.name = str(file) if file is not None else "(in memory)"
        self._limits = limits
        self._idle: list[Connection] = []
        self._guard = threading.Lock()
        self._slots = threading.BoundedSemaphore(limits.readers)
        self._generation = 0
        self._closed = False
        self._journal = None if file is None else RollbackJournal(file)
        self.writer = self._connect()

    def _connect(self) -> Connection:
        config: dict[str, Any] = {
            "threads": self._limits.threads,
            "memory_limit": f"{self._limits.memory_bytes}B",
            "checkpoint_threshold": CHECKPOINT_THRESHOLD,
            # A commit that is a checkpoint, of whatever size, does without DuckDB's log.
            "auto_checkpoint_skip_wal_threshold": 0,
            "preserve_insertion_order": True,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if self.file is not None:
            config["temp_directory"] = str(self.file.with_name(self.file.name + ".spill"))
        connection = duckdb.connect(str(self.file) if self.file else ":memory:", config=config)
        # No checkpoint without the journal: what DuckDB's log holds, the next start reads.
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        return connection

    @contextmanager
    def checkpointing(self, connection: Connection) -> Iterator[None]:
        """Put this around whatever may make a checkpoint: a crash in it then costs nothing.

        Raises:
            StoreUnavailable: The journal cannot be written; nothing was begun.
        """
        with nullcontext() if self._journal is None else self._journal.around(connection):
            yield

    def checkpoint(self, connection: Connection) -> None:
        """Fold DuckDB's log into the file, and give the blocks of deleted rows back."""
        with self.checkpointing(connection):
            connection.execute("CHECKPOINT")

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """A cursor of one's own; give back what it answered before leaving."""
        with self._slots, self.reader_at_once() as cursor:
            yield cursor

    @contextmanager
    def reader_at_once(self) -> Iterator[Connection]:
        """As `reader`, but never waits for queries: for the writing thread's own look-ups."""
        cursor, generation = self._borrow()
        try:
            yield cursor
        except duckdb.Error as exc:
            cursor.close()
            raise unavailable(exc, self.name) from exc
        except BaseException:
            cursor.close()
            raise
        with self._guard:
            if generation == self._generation and not self._closed:
                self._idle.append(cursor)
                return
        cursor.close()

    def _borrow(self) -> tuple[Connection, int]:
        with self._guard:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._idle:
                return self._idle.pop(), self._generation
            try:
                return self.writer.cursor(), self._generation
            except duckdb.Error as exc:
                raise unavailable(exc, self.name) from exc

    def table(self, query: str, params: list[Any] | None = None) -> pa.Table:
        """The answer of one query as Arrow."""
        with self.reader() as cursor:
            return arrow(cursor, query, params or [])

    def reopen(self) -> None:
        """Connect again after an error that invalidated the database in this process.

        Raises:
            duckdb.Error: It does not work again yet.
            StoreUnavailable: A checkpoint that failed cannot be undone yet.
        """
        if self.file is None:
            return
        with self._guard:
            self._drop()
            take_back(self.file)
            self.writer = self._connect()
            try:
                self.writer.execute("SELECT 1").fetchall()
            except duckdb.Error:
                # A cursor of before is still at work: DuckDB shared the broken database with it.
                self.writer.close()
                raise

    def _drop(self) -> None:
        self._generation += 1
        for cursor in self._idle:
            cursor.close()
        self._idle.clear()
        with suppress(duckdb.Error):
            self.writer.close()

    def close(self) -> None:
        with self._guard:
            if not self._closed:
                self._closed = True
                self._drop()
                if self._journal is not None:
                    self._journal.close()

    def wal_bytes(self) -> int:
        """Size of the write-ahead log."""
        if self.file is None:
            return 0
        try:
            return wal_of(self.file).stat().st_size
        except FileNotFoundError:
            return 0

    def disk_bytes(self) -> int:
        """Size of the file and its log."""
        if self.file is None:
            return 0
        return self.wal_bytes() + self.file.stat().st_size


def arrow(connection: Connection, query: str, params: list[Any]) -> pa.Table:
    """The answer of one query as Arrow, without a copy."""
    table: pa.Table = connection.sql(query, params=params).to_arrow_table()
    return table


def wal_of(file: Path) -> Path:
    """DuckDB's write-ahead log of a database file."""
    return file.with_name(file.name + ".wal")
