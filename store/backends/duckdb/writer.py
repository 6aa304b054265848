"""The one writing thread: a bounded queue, and one transaction a round."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import duckdb
import structlog

from store.backends.duckdb.admission import Admission, size_of
from store.backends.duckdb.database import Connection, Database, unavailable
from store.backends.duckdb.ingest import Ingest
from store.backends.duckdb.limits import StoreLimits
from store.errors import Overloaded, StoreUnavailable, WarroomError
from store.model import Batch

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A batch that waits for its round."""

    batch: Batch
    size: int
    done: Future[None]


@dataclass(frozen=True, slots=True)
class _Job:
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


class Writer:
    """Implements `Appender`; also runs jobs such as retention between rounds."""

    def __init__(
        self, database: Database, ingest: Ingest, admission: Admission, limits: StoreLimits
    ) -> None:
        self._database = database
        self._ingest = ingest
        self._admission = admission
        self._limits = limits
        self._wake = threading.Condition()
        self._queue: deque[_Waiting | _Job] = deque()
        self._queued_batches = 0
        self._queued_bytes = 0
        self._closing = False
        self._broken = False
        self._commits = 0
        self._failed = 0
        self._last_commit_s = 0.0
        self._last_checkpoint_s = 0.0
        self._error = ""
        self.after_round: Callable[[], None] = _nothing
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def append(self, batch: Batch) -> Future[None]:
        checked, refused = self._admission.check(batch)
        done: Future[None] = Future()
        self._put(_Waiting(checked, size_of(checked), done))
        if refused is not None:
            raise refused
        return done

    def run(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Do something with the writing connection, between rounds."""
        done: Future[Any] = Future()
        with self._wake:
            self._check_open()
            self._queue.append(_Job(work, done))
            self._wake.notify()
        return done

    def _put(self, waiting: _Waiting) -> None:
        limits = self._limits
        with self._wake:
            self._check_open()
            full = self._queued_batches >= limits.max_queue_batches
            # One batch larger than the whole bound still passes when nothing else waits.
            heavy = self._queued_bytes + waiting.size > limits.max_queue_bytes
            if full or (heavy and self._queued_batches):
                raise Overloaded(
                    f"{self._queued_batches} batches ({self._queued_bytes} bytes) wait to be"
                    " written",
                    retry_after_s=1,
                    hint="send the same again a little later",
                )
            self._queued_batches += 1
            self._queued_bytes += waiting.size
            self._queue.append(waiting)
            self._wake.notify()

    def _check_open(self) -> None:
        if self._closing:
            raise StoreUnavailable("the store is closed")

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                work = self._next_round()
            if isinstance(work, _Job):
                self._do(work)
            else:
                self._commit(work)
            self._tidy()

    def _next_round(self) -> list[_Waiting] | _Job:
        first = self._queue.popleft()
        if isinstance(first, _Job):
            return first
        taken = [first]
        rows = len(first.batch)
        while self._queue and rows < self._limits.max_round_rows:
            following = self._queue[0]
            if isinstance(following, _Job):
                break
            self._queue.popleft()
            taken.append(following)
            rows += len(following.batch)
        self._queued_batches -= len(taken)
        self._queued_bytes -= sum(waiting.size for waiting in taken)
        return taken

    def _commit(self, waiting: list[_Waiting]) -> None:
        live = [one for one in waiting if one.done.set_running_or_notify_cancel()]
        began = time.perf_counter()
        try:
            self._repair()
            self._ingest.apply([one.batch for one in live])
        except Exception as exc:  # noqa: BLE001  # the loop's boundary: told to callers and stats
            self._refuse(live, exc)
            return
        self._commits += 1
        self._error = ""
        self._last_commit_s = time.perf_counter() - began
        for one in live:
            one.done.set_result(None)

    def _refuse(self, live: list[_Waiting], exc: Exception) -> None:
        self._failed += 1
        self._error = str(exc)
        told = self._translated(exc)
        if len(live) > 1 and not isinstance(told, StoreUnavailable):
            for one in live:  # one bad batch must not fail its neighbours
                self._commit_alone(one)
            return
        _log.warning("store write failed", error=str(exc), batches=len(live))
        for one in live:
            one.done.set_exception(told)

    def _commit_alone(self, one: _Waiting) -> None:
        try:
            self._repair()
            self._ingest.apply([one.batch])
        except Exception as exc:  # noqa: BLE001  # as above
            self._failed += 1
            self._error = str(exc)
            one.done.set_exception(self._translated(exc))
        else:
            self._commits += 1
            one.done.set_result(None)

    def _translated(self, exc: Exception) -> Exception:
        if isinstance(exc, (duckdb.FatalException, duckdb.ConnectionException)):
            self._broken = True
        if isinstance(exc, duckdb.DataError):
            return exc
        if isinstance(exc, duckdb.Error):
            return unavailable(exc, self._database.name)
        if isinstance(exc, OSError):
            return StoreUnavailable(f"the store {self._database.name} failed: {exc}")
        return exc

    def _repair(self) -> None:
        """DuckDB refuses all work after a failed write to its log, until it is opened again."""
        if not self._broken:
            return
        try:
            self._database.reopen()
        except duckdb.Error as exc:
            raise unavailable(exc, self._database.name) from exc
        self._broken = False
        _log.info("store opened again", file=self._database.name)

    def _do(self, job: _Job) -> None:
        if not job.done.set_running_or_notify_cancel():
            return
        try:
            self._repair()
            job.done.set_result(job.work(self._database.writer))
        except Exception as exc:  # noqa: BLE001  # the loop's boundary: told to the caller
            told = exc if isinstance(exc, WarroomError) else self._translated(exc)
            job.done.set_exception(told)

    def _tidy(self) -> None:
        try:
            self.after_round()
            if self._database.wal_bytes() > self._limits.checkpoint_wal_bytes:
                self.checkpoint(self._database.writer)
        except (duckdb.Error, OSError) as exc:
            self._translated(exc if isinstance(exc, duckdb.Error) else OSError(str(exc)))
            self._error = str(exc)
            _log.warning("store upkeep failed", error=str(exc))

    def checkpoint(self, connection: Connection) -> None:
        """Fold the log into the file. Runs on the writing thread."""
        began = time.perf_counter()
        connection.execute("CHECKPOINT")
        self._last_checkpoint_s = time.perf_counter() - began

    def close(self) -> None:
        """Write what waits, fold the log, and stop."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._thread.join()
        with suppress(duckdb.Error):  # what is in the log is durable all the same
            self.checkpoint(self._database.writer)

    def stats(self) -> WriterStats:
        return WriterStats(
            queued_batches=self._queued_batches,
            queued_bytes=self._queued_bytes,
            commits=self._commits,
            failed_commits=self._failed,
            last_commit_s=self._last_commit_s,
            last_checkpoint_s=self._last_checkpoint_s,
            error=self._error,
        )


def _nothing() -> None:
    return None
