"""Snapshots: a consistent copy while writing goes on, which opens and answers the same."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from store.backends.duckdb import DuckDBStore, Found, is_in_use
from store.errors import StoreUnavailable
from store.model import EVENT_SCHEMA, EventBatch, Labels, Matcher, MatchOp, SampleBatch
from store.state_copy import copy_state

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
FILE = "telemetry.duckdb"
ALL = (Matcher("__name__", MatchOp.NOT_EQUAL, ""),)
SERIES = tuple(Labels.of(__name__="m", n=str(n)) for n in range(20))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    (tmp_path / "data").mkdir()
    with DuckDBStore.open(tmp_path / "data") as opened:
        yield opened


def put(store: DuckDBStore, ts_ms: int, value: float = 1.0) -> None:
    """One sample of each series at one time, in one batch."""
    count = len(SERIES)
    batch = SampleBatch(
        SERIES,
        np.arange(count, dtype=np.int32),
        np.full(count, ts_ms, dtype=np.int64),
        np.full(count, value),
    )
    store.append(batch).result(timeout=60)


def order(store: DuckDBStore, event_id: str) -> None:
    row = {
        "event_id": event_id,
        "source": "web",
        "type": "purchase",
        "ts_ms": 1_000,
        "bot": False,
        "test": False,
        "received_ms": 1_000,
    }
    store.append(EventBatch(pa.Table.from_pylist([row], schema=EVENT_SCHEMA))).result(timeout=60)


def samples(store: DuckDBStore) -> dict[Labels, list[tuple[int, float]]]:
    found = store.select(ALL, 0, 10**15)
    rows = list(zip(found.ts_ms.tolist(), found.values.tolist(), strict=True))
    bounds = found.offsets.tolist()
    return {
        labels: rows[bounds[place] : bounds[place + 1]] for place, labels in enumerate(found.series)
    }


def test_a_snapshot_opens_as_a_store_of_its_own_and_goes_on(
    store: DuckDBStore, tmp_path: Path
) -> None:
    for minute in range(10):
        put(store, minute * MINUTE_MS)
    put(store, 0, 7.0)  # the later write of one time wins, in the copy too
    order(store, "1")
    store.retain(2 * HOUR_MS, DAY_MS, rollup_ms=DAY_MS)
    file = store.snapshot(tmp_path / "copy")
    assert file == tmp_path / "copy" / FILE
    expected, span = samples(store), store.rollup_span()
    put(store, 99 * MINUTE_MS)
    for _ in range(2):
        with DuckDBStore.open(tmp_path / "copy") as copy:
            assert not copy.recovery.lost_data
            assert {
                k: [v for v in rows if v[0] < HOUR_MS] for k, rows in samples(copy).items()
            } == expected
            assert copy.rollup_span() == span
            order(copy, "1")  # known already
            order(copy, "2")
            put(copy, 88 * MINUTE_MS)
    with DuckDBStore.open(tmp_path / "copy") as copy:
        assert copy.recovery.found is Found.CLEAN
        assert copy.events(0, 10**6).column("event_id").to_pylist() == ["1", "2"]
        assert all(rows[-1][0] == 88 * MINUTE_MS for rows in samples(copy).values())


def test_a_snapshot_holds_whole_batches_and_all_that_was_acknowledged_before(
    store: DuckDBStore, tmp_path: Path
) -> None:
    stop = threading.Event()
    acknowledged: list[int] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            put(store, number * 1_000)
            acknowledged.append(number)
            number += 1

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for number in range(3):
            before = len(acknowledged)
            store.snapshot(tmp_path / f"copy-{number}")
            with DuckDBStore.open(tmp_path / f"copy-{number}") as copy:
                rows = list(samples(copy).values())
            assert all(one == rows[0] for one in rows)
            times = [ts_ms // 1_000 for ts_ms, _ in (rows[0] if rows else [])]
            assert times == list(range(len(times)))
            assert len(times) >= before
    finally:
        stop.set()
        writing.join(60)


def test_a_taken_place_is_refused_and_left_alone(store: DuckDBStore, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / FILE).write_text("mine")
    with pytest.raises(StoreUnavailable, match="exists already"):
        store.snapshot(tmp_path / "copy")
    assert (tmp_path / "copy" / FILE).read_text() == "mine"
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        store.snapshot(tmp_path / "file" / "copy")
    put(store, 1_000)  # the store itself goes on
    store.snapshot(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == [FILE]


def test_who_has_a_store_open_can_be_asked(store: DuckDBStore, tmp_path: Path) -> None:
    assert is_in_use(tmp_path / "data")
    store.close()
    assert not is_in_use(tmp_path / "data")
    with pytest.raises(StoreUnavailable, match="cannot write"):
        is_in_use(tmp_path / "nowhere" / "data")


def test_the_state_is_copied_while_a_transaction_is_open(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as state:
        state.execute("PRAGMA journal_mode=WAL")
        state.execute("CREATE TABLE t (n INTEGER)")
        state.execute("INSERT INTO t VALUES (1)")
        state.execute("BEGIN IMMEDIATE")
        state.execute("INSERT INTO t VALUES (2)")
        copy_state(tmp_path / "state.db", tmp_path / "copy.db")
        state.execute("COMMIT")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT n FROM t").fetchall() == [(1,)]
    with pytest.raises(StoreUnavailable, match="no state database"):
        copy_state(tmp_path / "other.db", tmp_path / "more.db")
    (tmp_path / "broken.db").write_bytes(b"not a database" * 1_000)
    with pytest.raises(StoreUnavailable, match="failed"):
        copy_state(tmp_path / "broken.db", tmp_path / "more.db")
    assert not (tmp_path / "more.db").exists()
