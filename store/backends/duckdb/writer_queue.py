"""What waits for the writing thread, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from store.backends.duckdb.database import Connection
from store.backends.duckdb.ingest import Entry


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch that waits for its round.

    Ids that were looked up before a job may be gone after it: `jobs_before` tells.
    """

    entry: Entry
    size: int
    jobs_before: int
    done: Future[None]


@dataclass(frozen=True, slots=True)
class Job:
    """Other work that needs the writing connection."""

    work: Callable[[Connection], Any]
    done: Future[Any]


@dataclass(frozen=True, slots=True)
class WriterStats:
    """How the writer fares."""

    queued_batches: int
    queued_bytes: int
    commits: int
    failed_commits: int
    last_commit_s: float
    last_checkpoint_s: float
    error: str
