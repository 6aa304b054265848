"""Two threads: one makes rounds durable in the append log, one moves them into the database.

Jobs such as retention run on the first, between rounds, and find everything in the database that
was acknowledged before them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import structlog

from store.backends.duckdb.admission import Admission, size_of
from store.backends.duckdb.database import Connection, Database, unavailable
from store.backends.duckdb.flush import Flusher
from store.backends.duckdb.ingest import Entry, Ingest
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.writer_queue import Job, Waiting, WriterStats
from store.errors import Overloaded, StoreUnavailable, WarroomError
from store.model import Batch

_log = structlog.get_logger()
_LEAST_PAUSE_S = 1.0
# Queries that run while the database breaks end soon: it refuses them.
_REOPEN_S, _REOPEN_PAUSE_S = 1.0, 0.01


class Writer:
    """Implements `Appender`; also runs jobs such as retention between rounds.

    Attributes:
        wants_upkeep: Asked after each round; when it says yes, `upkeep` runs as a job does.
    """

    def __init__(
        self, database: Database, ingest: Ingest, admission: Admission, limits: StoreLimits
    ) -> None:
        self._database = database
        self._flusher = Flusher(ingest.tail, ingest.log, database)
        self._ingest = ingest
        self._admission = admission
        self._limits = limits
        self._wake = threading.Condition()
        self._queue: deque[Waiting | Job] = deque()
        self._queued_batches = 0
        self._queued_bytes = 0
        self._closing = False
        self._ended = False
        self._at_work: list[Waiting] | Job | None = None
        self._broken = False
        self._jobs = 0
        self._commits = 0
        self._failed = 0
        self._last_commit_s = 0.0
        self._last_checkpoint_s = 0.0
        self._error = ""
        self._flush_error = ""
        self.wants_upkeep: Callable[[], bool] = _never
        self.upkeep: Callable[[Connection], None] = _nothing
        # Whoever uses the database's writing connection holds this.
        self._database_lock = threading.Lock()
        self._flush_wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._flushing = threading.Thread(
            target=self._flush_by_and_by, name="store-flusher", daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        self._flushing.start()

    def append(self, batch: Batch) -> Future[None]:
        jobs_before = self._jobs
        entry, refused = self._admission.check(batch)
        done: Future[None] = Future()
        self._put(Waiting(entry, size_of(entry.batch), jobs_before, done))
        if refused is not None:
            raise refused
        return done

    def run(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Do something with the writing connection, between rounds, when all is in the database."""
        done: Future[Any] = Future()
        with self._wake:
            self._check_open()
            self._queue.append(Job(work, done))
            self._wake.notify()
        return done

    def _put(self, waiting: Waiting) -> None:
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
        if self._ended:
            raise self._ended_error()

    def _run(self) -> None:
        try:
            self._work_off()
        except Exception as exc:  # noqa: BLE001  # the thread's boundary: told in stats and to callers
            self._error = f"the writing thread ended: {exc!r}; restart the service"
            _log.error("store writer ended", error=repr(exc))
        finally:
            self._give_up()

    def _give_up(self) -> None:
        """Whoever still waits is told, and nobody waits from now on."""
        with self._wake:
            self._ended = True
            left = [self._at_work, *self._queue]
            self._queue.clear()
            self._queued_batches = self._queued_bytes = 0
        for work in left:
            for one in work if isinstance(work, list) else [work]:
                if one is not None and not one.done.done():
                    one.done.set_exception(self._ended_error())

    def _ended_error(self) -> StoreUnavailable:
        return StoreUnavailable(self._error or "the store is closed")

    def _work_off(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                work = self._at_work = self._next_round()
            if isinstance(work, Job):
                self._do(work)
            else:
                self._commit(work)
            self._at_work = None
            self._tidy()

    def _next_round(self) -> list[Waiting] | Job:
        first = self._queue.popleft()
        if isinstance(first, Job):
            return first
        taken = [first]
        rows = len(first.entry.batch)
        while self._queue and rows < self._limits.max_round_rows:
            following = self._queue[0]
            if isinstance(following, Job):
                break
            self._queue.popleft()
            taken.append(following)
            rows += len(following.entry.batch)
        self._queued_batches -= len(taken)
        self._queued_bytes -= sum(waiting.size for waiting in taken)
        return taken

    def _commit(self, waiting: list[Waiting]) -> None:
        live = [one for one in waiting if one.done.set_running_or_notify_cancel()]
        began = time.perf_counter()
        try:
            self._make_room()
            self._ingest.apply([self._entry(one) for one in live])
        except Exception as exc:  # noqa: BLE001  # the loop's boundary: told to callers and stats
            self._refuse(live, exc)
            return
        self._commits += 1
        self._error = ""
        self._last_commit_s = time.perf_counter() - began
        for one in live:
            one.done.set_result(None)

    def _entry(self, one: Waiting) -> Entry:
        return one.entry if one.jobs_before == self._jobs else Entry(one.entry.batch)

    def _make_room(self) -> None:
        """Never be more ahead of the database than twice what goes there at once."""
        size, rows, _ = self._ingest.tail.active_size()
        limits = self._limits
        if size >= 2 * limits.flush_bytes or rows >= 2 * limits.flush_rows:
            with self._database_at_work() as connection:
                self._flusher.flush_all(connection)
                self._fold()

    def _refuse(self, live: list[Waiting], exc: Exception) -> None:
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

    def _commit_alone(self, one: Waiting) -> None:
        try:
            self._ingest.apply([self._entry(one)])
        except Exception as exc:  # noqa: BLE001  # as above
            self._failed += 1
            self._error = str(exc)
            one.done.set_exception(self._translated(exc))
        else:
            self._commits += 1
            one.done.set_result(None)

    def _translated(self, exc: Exception) -> Exception:
        if isinstance(exc, duckdb.DataError):
            return exc
        if isinstance(exc, duckdb.Error):
            return unavailable(exc, self._database.name)
        if isinstance(exc, OSError):
            return StoreUnavailable(f"the store {self._database.name} failed: {exc}")
        return exc

    @contextmanager
    def _database_at_work(self) -> Iterator[Connection]:
        """The writing connection, for one thread; what breaks is mended at once, for readers."""
        with self._database_lock:
            self._repair()
            try:
                yield self._database.writer
            except (duckdb.FatalException, duckdb.ConnectionException):
                self._broken = True
                with suppress(StoreUnavailable):  # the next one tries again
                    self._repair()
                raise

    def _repair(self) -> None:
        """DuckDB refuses all work after a failed write, readers' too, until it is opened again."""
        if not self._broken:
            return
        last_try_s = time.monotonic() + _REOPEN_S
        while self._broken:
            try:
                self._database.reopen()
                self._broken = False
            except duckdb.Error as exc:
                if time.monotonic() > last_try_s or self._stopping.wait(_REOPEN_PAUSE_S):
                    raise unavailable(exc, self._database.name) from exc
        _log.info("store opened again", file=self._database.name)

    def _do(self, job: Job) -> None:
        if not job.done.set_running_or_notify_cancel():
            return
        try:
            job.done.set_result(self._with_all_stored(job.work))
        except Exception as exc:  # noqa: BLE001  # the loop's boundary: told to the caller
            told = exc if isinstance(exc, WarroomError) else self._translated(exc)
            job.done.set_exception(told)

    def _with_all_stored(self, work: Callable[[Connection], Any]) -> Any:
        with self._database_at_work() as connection:
            self._flusher.flush_all(connection)
            self._jobs += 1
            try:
                return work(connection)
            finally:
                # Who looked up ids while the work ran must look again, too.
                self._jobs += 1
                self._fold_if_large()

    def _tidy(self) -> None:
        try:
            if self.wants_upkeep():
                self._with_all_stored(self.upkeep)
        except Exception as exc:  # noqa: BLE001  # the loop's boundary: told in stats, tried again
            self._error = str(exc) or repr(exc)
            _log.warning("store upkeep failed", error=str(exc))
        if self._is_due():
            self._flush_wanted.set()

    def _is_due(self) -> bool:
        size, rows, age_s = self._ingest.tail.active_size()
        limits = self._limits
        return (
            size >= limits.flush_bytes
            or rows >= limits.flush_rows
            or age_s >= limits.flush_interval_s
        )

    def _flush_by_and_by(self) -> None:
        pause_s = self._limits.flush_interval_s
        while not self._stopping.is_set():
            self._flush_wanted.wait(pause_s)
            self._flush_wanted.clear()
            if self._stopping.is_set():
                return
            pause_s = self._flush_once()

    def _flush_once(self) -> float:
        """Flush what is due; returns after how many seconds to look again."""
        # What a failed flush left frozen is due, even when nobody writes any more.
        if not (self._is_due() or self._ingest.tail.is_frozen()):
            return self._pause_s()
        try:
            with self._database_at_work() as connection:
                self._flusher.flush(connection)
                self._fold()
        except Exception as exc:  # noqa: BLE001  # the loop's boundary: told in stats, tried again
            self._flush_error = str(exc)
            _log.warning("store flush failed", error=str(exc))
            self._stopping.wait(_LEAST_PAUSE_S)
            return _LEAST_PAUSE_S
        self._flush_error = ""
        return self._pause_s()

    def _pause_s(self) -> float:
        _, _, age_s = self._ingest.tail.active_size()
        return max(self._limits.flush_interval_s - age_s, _LEAST_PAUSE_S)

    def _fold_if_large(self) -> None:
        limits = self._limits
        logged = self._ingest.log.bytes_used()
        if (
            logged > 2 * limits.log_segment_bytes
            or self._database.wal_bytes() > limits.checkpoint_wal_bytes
        ):
            self._fold()

    def _fold(self) -> None:
        began = time.perf_counter()
        self._flusher.fold(self._database.writer)
        self._last_checkpoint_s = time.perf_counter() - began

    def close(self) -> None:
        """Write what waits, bring it into the database, and stop."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._stopping.set()
        self._flush_wanted.set()
        self._flushing.join()
        log = self._ingest.log
        try:
            self._repair()
            self._flusher.flush_all(self._database.writer)
            self._fold()
        except (duckdb.Error, WarroomError) as exc:
            _log.warning("the append log stays for the next start", error=str(exc))
            log.close()
        else:
            log.empty()

    def stats(self) -> WriterStats:
        return WriterStats(
            queued_batches=self._queued_batches,
            queued_bytes=self._queued_bytes,
            commits=self._commits,
            failed_commits=self._failed,
            last_commit_s=self._last_commit_s,
            last_checkpoint_s=self._last_checkpoint_s,
            error=self._error or self._flush_error,
        )


def _never() -> bool:
    return False


def _nothing(connection: Connection) -> None:
    del connection
