"""Opening a database that a crash, a full disk or a flipped bit may have touched.

The rule: a start never loops and never drops data in silence. A log that cannot be replayed, or a
file that cannot be read, is moved aside under a `.damaged-N` name, said in the report and logged.
A file that is merely busy, or on a disk that refuses writes, is left alone and the start fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb
import structlog

from store.backends.duckdb import schema
from store.backends.duckdb.database import Database, unavailable, wal_of
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.replay import NOTHING_REPLAYED, Replayed
from store.backends.duckdb.rollback_journal import take_back
from store.errors import StoreUnavailable

_log = structlog.get_logger()


class HasReplayed(Protocol):
    """What loading gives: at least what it took over from the append log."""

    @property
    def replayed(self) -> Replayed: ...


Loaded = TypeVar("Loaded", bound=HasReplayed)

_PASSING = (
    "permission denied",
    "read-only file system",
    "no space left",
    "disk quota exceeded",
    "input/output error",
    "file too large",
    "could not set lock",
    "too many open files",
    "no such file or directory",
)


class Found(StrEnum):
    """What a start found."""

    IN_MEMORY = "in_memory"
    NEW = "new"
    CLEAN = "clean"
    LOG_REPLAYED = "log_replayed"
    LOG_SET_ASIDE = "log_set_aside"
    FILE_SET_ASIDE = "file_set_aside"


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening the store found and did.

    Attributes:
        found: The case.
        message: One sentence for people: what was found and what was lost.
        log_bytes: Size of DuckDB's own log at the start.
        set_aside: Damaged files, under their new names.
        duration_s: How long opening took.
        replayed: What was taken over from the append log.
    """

    found: Found
    message: str
    log_bytes: int = 0
    set_aside: tuple[Path, ...] = ()
    duration_s: float = 0.0
    replayed: Replayed = NOTHING_REPLAYED

    @property
    def lost_data(self) -> bool:
        return bool(self.set_aside)


def open_loaded(
    file: Path | None, limits: StoreLimits, load: Callable[[Database], Loaded]
) -> tuple[Loaded, Recovery]:
    """Open, make missing tables and load; what cannot be loaded is damaged and set aside.

    Raises:
        StoreUnavailable: The file is busy or cannot be written; nothing was changed.
    """
    if file is None:
        loaded = _attempt(None, limits, load)
        return loaded, Recovery(Found.IN_MEMORY, "the store lives in memory and is gone at exit")
    began = time.perf_counter()
    log_bytes = wal_of(file).stat().st_size if wal_of(file).exists() else 0
    existed = file.exists()
    undone = "an unfinished checkpoint was undone" if take_back(file) else ""
    loaded, found, aside = _load_or_repair(file, limits, load)
    replayed = loaded.replayed
    if found is Found.CLEAN:
        found = _undamaged(existed=existed, log_bytes=log_bytes, replayed=replayed)
    message = _message(found, file, log_bytes, aside)
    recovery = Recovery(
        found,
        "; ".join(filter(None, [message, undone, replayed.message()])),
        log_bytes,
        (*aside, *replayed.set_aside),
        time.perf_counter() - began,
        replayed,
    )
    log = _log.error if recovery.lost_data else _log.info
    log("store opened", found=found.value, detail=recovery.message)
    return loaded, recovery


def _undamaged(*, existed: bool, log_bytes: int, replayed: Replayed) -> Found:
    if replayed.set_aside:
        return Found.LOG_SET_ASIDE
    if replayed.rounds or replayed.cut_bytes or (existed and log_bytes):
        return Found.LOG_REPLAYED
    return Found.CLEAN if existed else Found.NEW


def _load_or_repair(
    file: Path, limits: StoreLimits, load: Callable[[Database], Loaded]
) -> tuple[Loaded, Found, tuple[Path, ...]]:
    aside: tuple[Path, ...] = ()
    try:
        return _attempt(file, limits, load), Found.CLEAN, aside
    except duckdb.Error as exc:
        _only_if_damaged(exc, file)
    if wal_of(file).exists():
        aside = (_set_aside(wal_of(file)),)
        try:
            return _attempt(file, limits, load), Found.LOG_SET_ASIDE, aside
        except duckdb.Error as exc:
            _only_if_damaged(exc, file)
    if file.exists():
        aside = (*aside, _set_aside(file))
    try:
        return _attempt(file, limits, load), Found.FILE_SET_ASIDE, aside
    except duckdb.Error as exc:
        raise unavailable(exc, str(file)) from exc


def _attempt(file: Path | None, limits: StoreLimits, load: Callable[[Database], Loaded]) -> Loaded:
    database = Database(file, limits)
    try:
        schema.create(database.writer)
        return load(database)
    except BaseException:
        database.close()
        raise


def _only_if_damaged(exc: duckdb.Error, file: Path) -> None:
    text = str(exc).lower()
    if isinstance(exc, duckdb.OutOfMemoryException) or any(word in text for word in _PASSING):
        raise unavailable(exc, str(file)) from exc
    _log.error("store file or log is damaged", file=str(file), error=text)


def _set_aside(path: Path) -> Path:
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        path.rename(target)
    except OSError as exc:
        raise StoreUnavailable(
            f"{path} is damaged and cannot be moved aside: {exc.strerror}",
            hint="move the file away by hand, or make its directory writable",
        ) from exc
    return target


def _message(found: Found, file: Path, log_bytes: int, aside: tuple[Path, ...]) -> str:
    names = " and ".join(path.name for path in aside)
    match found:
        case Found.NEW:
            return f"{file} is new"
        case Found.LOG_REPLAYED:
            return f"{file} was not closed"
        case Found.LOG_SET_ASIDE if aside:
            return (
                f"DuckDB's log of {file} ({log_bytes} bytes) is damaged and lies in {names};"
                " deletions since the last checkpoint may be undone"
            )
        case Found.LOG_SET_ASIDE:
            return f"the append log of {file} is damaged"
        case Found.FILE_SET_ASIDE:
            return (
                f"{file} is damaged and was moved to {names}; the store starts empty;"
                " restore a backup to have the old data back"
            )
        case _:
            return f"{file} was closed properly"
