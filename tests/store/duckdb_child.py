"""A process that writes to a store and says what was acknowledged; tests kill it, or fill its disk.

Usage: duckdb_child.py write DIRECTORY FIRST | full DIRECTORY | hold DIRECTORY
"""

import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.errors import StoreUnavailable
from store.model import EVENT_SCHEMA, SPAN_SCHEMA, EventBatch, Labels, SampleBatch, SpanBatch

LIMITS = StoreLimits(checkpoint_wal_bytes=200_000)
SERIES = 50


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


def write(directory: Path, first: int) -> None:
    """Write until killed; a number is printed once all of its three batches are acknowledged."""
    store = DuckDBStore.open(directory, limits=LIMITS)
    number = first
    while True:
        waiting = [
            store.append(sample_batch(number)),
            store.append(span_batch(number)),
            store.append(event_batch(number)),
        ]
        for done in waiting:
            done.result()
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1


def full(directory: Path) -> None:
    """Write until no file may grow, then make room: every acknowledged number is printed."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = DuckDBStore.open(directory, limits=LIMITS)
    store.append(sample_batch(0)).result()
    said = ["0"]
    largest = max(path.stat().st_size for path in directory.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 300_000, resource.RLIM_INFINITY))
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


def hold(directory: Path) -> None:
    """Keep the store open until the parent closes our standard input."""
    with DuckDBStore.open(directory):
        sys.stdout.write("open\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    # Standard output carries what was acknowledged, and nothing else.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    where = Path(sys.argv[2])
    if sys.argv[1] == "write":
        write(where, int(sys.argv[3]))
    elif sys.argv[1] == "full":
        full(where)
    else:
        hold(where)
