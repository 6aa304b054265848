"""A process whose files may not grow for a while, as on a full disk, while upkeep runs.

Usage: upkeep_child.py DIRECTORY. Prints what each step said, and `done` when all came right.
"""

import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import structlog

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.errors import StoreUnavailable
from store.model import Labels, SampleBatch

SERIES = tuple(Labels.of(__name__="m", n=str(n)) for n in range(200))
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_795_773_600_000
HOURS = 8


def hour(number: int) -> SampleBatch:
    """A sample a minute of each series for an hour; values that do not compress."""
    rows = 60 * len(SERIES)
    first_ms = START_MS + number * HOUR_MS
    return SampleBatch(
        SERIES,
        np.tile(np.arange(len(SERIES), dtype=np.int32), 60),
        np.repeat(first_ms + np.arange(60, dtype=np.int64) * 60_000, len(SERIES)),
        np.random.default_rng(number).random(rows),
    )


def refused(what: str, work: Callable[[], object]) -> None:
    """Run it: it must fail, and say why."""
    try:
        work()
    except StoreUnavailable as exc:
        print(what, "refused:", exc)
    else:
        raise AssertionError(f"{what} went through")


def main(directory: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (directory / "data").mkdir()
    store = DuckDBStore.open(directory / "data", limits=StoreLimits(head_window_ms=0))
    for number in range(HOURS):
        store.append(hour(number)).result()
    store.reclaim()
    now_ms = START_MS + (HOURS + 1) * HOUR_MS
    before = store.select((), 0, now_ms).values
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
    refused("snapshot", lambda: store.snapshot(directory / "copy"))
    assert not (directory / "copy").exists() or not list((directory / "copy").iterdir())
    refused("upkeep", lambda: store.retain(now_ms, DAY_MS, rollup_ms=400 * DAY_MS))
    assert np.array_equal(store.select((), 0, now_ms).values, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    store.retain(now_ms, DAY_MS, rollup_ms=400 * DAY_MS)
    found = store.rollups((), 0, now_ms, columns=("count",))
    assert found.columns["count"].sum() == HOURS * 60 * len(SERIES)
    assert len(found.bucket_ms) == (HOURS * 12 + 1) * len(SERIES)
    store.snapshot(directory / "copy")
    store.close()
    with DuckDBStore.open(directory / "copy") as copy:
        assert np.array_equal(copy.select((), 0, now_ms).values, before)
    print("done")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main(Path(sys.argv[1]))
