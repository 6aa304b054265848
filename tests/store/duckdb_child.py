"""A process that writes to a store and says what was acknowledged; tests kill it, or fill its disk.

Usage: duckdb_child.py many|crash|full|unflushed|straight|hold DIRECTORY

`many` reads lines `FIRST [STEP]` and forks a writer for each: it writes from the number FIRST on
until it is killed, or kills itself at a step of the flush (`commit`, `committed`, `folded`, or
`torn`: amid a checkpoint's write over metadata). With `-straight` behind it (or alone) every flush
goes straight into the file, as large ones do.
"""

import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog
from typing_extensions import override

from store.backends.duckdb import DuckDBStore, StoreLimits, warm_kernels
from store.backends.duckdb.database import Connection
from store.backends.duckdb.flush import Flusher
from store.errors import StoreUnavailable
from store.model import (
    EVENT_SCHEMA,
    LOG_SCHEMA,
    SPAN_SCHEMA,
    EventBatch,
    Labels,
    LogBatch,
    SampleBatch,
    SpanBatch,
)

# Small, so that segments, flushes and checkpoints come in quick succession.
LIMITS = StoreLimits(
    checkpoint_wal_bytes=200_000,
    log_segment_bytes=20_000,
    flush_rows=3_000,
    flush_bytes=500_000,
    flush_interval_s=0.05,
)
SERIES = 50
# Where DuckDB's first block of metadata lies.
METADATA = 3 * 4096


def sample_batch(number: int) -> SampleBatch:
    """One sample of each of `SERIES` series; every tenth batch also brings a new series."""
    fixed = [Labels.of(__name__="m", n=str(n)) for n in range(SERIES)]
    fixed[0] = Labels.of(__name__="m", n="new", generation=str(number // 10))
    return SampleBatch(
        tuple(fixed),
        np.arange(SERIES, dtype=np.int32),
        np.full(SERIES, number * 1_000, dtype=np.int64),
        np.full(SERIES, float(number)),
    )


def span_batch(number: int) -> SpanBatch:
    row = {
        "trace_id": number.to_bytes(16, "big"),
        "span_id": number.to_bytes(8, "big"),
        "start_ns": number,
        "end_ns": number + 1,
        "service": "shop",
        "name": "GET",
        "kind": 2,
        "status": 0,
        "received_ms": number,
    }
    return SpanBatch(pa.Table.from_pylist([row], schema=SPAN_SCHEMA))


def event_batch(number: int) -> EventBatch:
    row = {
        "event_id": str(number),
        "source": "web",
        "type": "purchase",
        "ts_ms": number,
        "bot": False,
        "test": False,
        "received_ms": number,
    }
    return EventBatch(pa.Table.from_pylist([row], schema=EVENT_SCHEMA))


def log_batch(number: int) -> LogBatch:
    row = {"ts_ns": number, "severity": 9, "service": "shop", "body": "x", "received_ms": number}
    return LogBatch(pa.Table.from_pylist([row], schema=LOG_SCHEMA))


class DyingFlusher(Flusher):
    """Kills its process at a step of the second flush."""

    step = ""
    flushes = 0
    directory: Path

    def _die_at(self, step: str) -> None:
        if self.step == step and self.flushes > 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def _tear(self) -> None:
        """Half of a block is of the checkpoint that was begun, half of the one before."""
        if self.step == "torn" and self.flushes > 1:
            with (self.directory / "telemetry.duckdb").open("r+b") as file:
                file.seek(METADATA)
                file.write(os.urandom(128 * 1024))
            self._die_at("torn")

    @override
    def _commit(self, connection: Connection) -> None:
        self.flushes += 1
        self._die_at("commit")
        if self.large_bytes == 0:
            self._tear()
        super()._commit(connection)
        self._die_at("committed")

    @override
    def _checkpoint(self, connection: Connection) -> None:
        with self._database.checkpointing(connection):
            self._tear()
        super()._checkpoint(connection)
        self._die_at("folded")


def write(directory: Path, first: int, step: str) -> None:
    """Write until killed; a number is printed once all of its batches are acknowledged."""
    store = DuckDBStore.open(directory, limits=LIMITS)
    if step:
        flusher = DyingFlusher(store._ingest.tail, store._ingest.log, store._database)
        flusher.directory = directory
        flusher.step, _, how = step.partition("-")
        if how == "straight":
            flusher.large_bytes = 0
        store._writer._flusher = flusher
    number = first
    while True:
        waiting = [
            store.append(sample_batch(number)),
            store.append(span_batch(number)),
            store.append(event_batch(number)),
            store.append(event_batch(number)),
            store.append(log_batch(number)),
        ]
        for done in waiting:
            done.result()
        say(str(number))
        number += 1


def many(directory: Path) -> None:
    """Fork a writer for each line: a fork starts faster than a process that imports anew."""
    warm_kernels()
    for line in sys.stdin:
        first, _, step = line.strip().partition(" ")
        pid = os.fork()
        if not pid:
            say(f"pid {os.getpid()}")
            write(directory, int(first), step)
        os.waitpid(pid, 0)
        say("ended")


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def full(directory: Path) -> None:
    """Write until the log may not grow, then make room: every acknowledged number is printed."""
    _fill(directory, replace(LIMITS, flush_interval_s=3600.0), most_bytes=10_000)


def unflushed(directory: Path) -> None:
    """As `full`, but the log has room and the database has not."""
    _fill(directory, replace(LIMITS, flush_interval_s=3600.0), most_bytes=0)


def straight(directory: Path) -> None:
    """As `unflushed`, where flushes go straight into the file."""
    Flusher.large_bytes = 0
    unflushed(directory)


def _fill(directory: Path, limits: StoreLimits, *, most_bytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = DuckDBStore.open(directory, limits=limits)
    store.append(sample_batch(0)).result()
    said = ["0"]
    if not most_bytes:  # what the database has now, and no more
        store._writer.run(lambda connection: connection.execute("CHECKPOINT").fetchall()).result()
        most_bytes = (directory / "telemetry.duckdb").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    refused = 0
    number = 1
    while refused < 3:
        try:
            store.append(sample_batch(number)).result()
            said.append(str(number))
        except StoreUnavailable as exc:
            refused += 1
            sys.stderr.write(f"{exc}\n")
        number += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.append(sample_batch(number)).result()
    said.append(str(number))
    store.close()
    sys.stdout.write("\n".join(said) + "\n")


def crash(directory: Path) -> None:
    """Ten acknowledged rounds that the database does not have, then kill -9."""
    store = DuckDBStore.open(directory)
    up = Labels.of(__name__="up")
    for ts_ms in range(51_000, 61_000, 1_000):
        store.append(SampleBatch.of_rows([(up, ts_ms, 1.0)])).result()
    os.kill(os.getpid(), signal.SIGKILL)


def hold(directory: Path) -> None:
    """Keep the store open until the parent closes our standard input."""
    with DuckDBStore.open(directory):
        sys.stdout.write("open\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    # Standard output carries what was acknowledged, and nothing else.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    modes = {
        "crash": crash,
        "many": many,
        "full": full,
        "unflushed": unflushed,
        "straight": straight,
        "hold": hold,
    }
    modes[sys.argv[1]](Path(sys.argv[2]))
