"""Refused disks, wrong clocks, late samples and dead threads lose and count nothing wrongly."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from store.backends.duckdb import DuckDBStore, Found, StoreLimits, rollup_table
from store.backends.duckdb.database import Connection
from store.backends.duckdb.flush import Flusher
from store.backends.duckdb.head import Columns, Head
from store.backends.duckdb.head_placing import _typical_newest
from store.backends.duckdb.ingest import SeriesTimes
from store.backends.duckdb.rollup_table import Progress, believable
from store.backends.duckdb.rollups import Rollups
from store.errors import StoreUnavailable
from store.model import (
    EVENT_SCHEMA,
    LOG_SCHEMA,
    SPAN_CODED_SCHEMA,
    SPAN_SCHEMA,
    EventBatch,
    Labels,
    LogBatch,
    Matcher,
    MatchOp,
    SampleBatch,
    SpanBatch,
)
from store.promql.cache import RangeCache
from store.promql.engine import Engine

FIVE_MS = 300_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
KEEP_MS = 400 * DAY_MS
START_MS = 1_795_773_600_000
UP = Labels.of(__name__="up")
ALL = (Matcher("__name__", MatchOp.NOT_EQUAL, ""),)
LAZY = StoreLimits(flush_interval_s=3600.0)  # nothing leaves the log by itself


@pytest.fixture
def store() -> Iterator[DuckDBStore]:
    with DuckDBStore.open(None, limits=LAZY) as opened:
        yield opened


def put(store: DuckDBStore, *times_ms: int, labels: Labels = UP, value: float = 1.0) -> None:
    rows = [(labels, ts_ms, value) for ts_ms in times_ms]
    store.append(SampleBatch.of_rows(rows)).result(timeout=60)


def put_hours(store: DuckDBStore, hours: int) -> None:
    put(store, *range(START_MS + 60_000, START_MS + hours * HOUR_MS + 1, 60_000))


def order(event_id: str) -> EventBatch:
    row: dict[str, Any] = {
        "event_id": event_id,
        "source": "shop",
        "type": "order",
        "ts_ms": START_MS,
        "bot": False,
        "test": False,
        "received_ms": START_MS,
    }
    return EventBatch(pa.Table.from_pylist([row], schema=EVENT_SCHEMA))


def crashed(directory: Path, write: Callable[[DuckDBStore], None]) -> Path:
    """The files of a store as a crash after `write` leaves them."""
    (directory / "live").mkdir()
    with DuckDBStore.open(directory / "live", limits=LAZY) as store:
        write(store)
        shutil.copytree(directory / "live", directory / "crashed")
    return directory / "crashed"


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.mark.parametrize("step", ["_commit", "_checkpoint"])
@pytest.mark.parametrize(
    "said", ["Could not write: Disk quota exceeded", "Input/output error", "Something new"]
)
def test_a_refused_write_at_the_start_sets_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, said: str
) -> None:
    files = crashed(tmp_path, lambda store: put(store, START_MS))

    def refuse(_: Flusher, connection: Connection) -> None:
        del connection
        raise duckdb.IOException(f"IO Error: {said}")

    with monkeypatch.context() as patched:
        patched.setattr(Flusher, step, refuse)
        with pytest.raises(StoreUnavailable, match=said):
            DuckDBStore.open(files)
    assert not list(files.glob("*.damaged-*"))
    with DuckDBStore.open(files) as store:
        assert store.recovery.found in {Found.LOG_REPLAYED, Found.CLEAN}
        assert store.select(ALL, 0, START_MS).ts_ms.tolist() == [START_MS]


def test_an_event_that_a_crash_left_in_the_log_is_known_when_it_is_sent_again(
    tmp_path: Path,
) -> None:
    files = crashed(tmp_path, lambda store: store.append(order("1")).result(timeout=60))
    with DuckDBStore.open(files) as store:
        store.append(order("1")).result(timeout=60)
        store.append(order("2")).result(timeout=60)
        found = store.events(0, START_MS + 1).column("event_id").to_pylist()
        assert found == ["1", "2"]


def test_a_clock_that_jumps_ahead_deletes_nothing_and_hides_nothing(store: DuckDBStore) -> None:
    put_hours(store, 3)
    store.append(order("1")).result(timeout=60)
    taken = store.retain(START_MS + 900 * DAY_MS, 15 * DAY_MS, rollup_ms=KEEP_MS)
    assert sum(taken.rows.values()) == 0
    store.retain(START_MS + 900 * DAY_MS, 15 * DAY_MS, max_bytes=1, rollup_ms=KEEP_MS)
    assert store.raw_after_ms() <= START_MS + 3 * HOUR_MS
    later_ms = START_MS + 3 * HOUR_MS + FIVE_MS
    put(store, later_ms)
    store.retain(later_ms, 15 * DAY_MS, rollup_ms=KEEP_MS)
    assert store.select(ALL, later_ms, later_ms).ts_ms.tolist() == [later_ms]


def test_a_start_takes_back_what_a_wrong_clock_claimed(tmp_path: Path) -> None:
    far_ms = START_MS + 900 * DAY_MS
    with DuckDBStore.open(tmp_path) as store:
        put_hours(store, 3)

        def claim(connection: Connection) -> None:
            rollup_table.write_claimed(connection, far_ms)
            rollup_table.write_done(connection, far_ms)
            rollup_table.write_raw_floor(connection, far_ms)

        store._writer.run(claim).result(timeout=60)
    with DuckDBStore.open(tmp_path) as store:
        assert len(store.select(ALL, 0, START_MS + DAY_MS).ts_ms) == 180
        assert store.rollup_span().rolled_until_ms <= START_MS
        store.retain(START_MS + 4 * HOUR_MS, 15 * DAY_MS, rollup_ms=KEEP_MS)
        assert store.rollup_span().rolled_until_ms == START_MS + 3 * HOUR_MS
        found = store.rollups(ALL, 0, START_MS + DAY_MS, columns=("count",))
        assert found.columns["count"].sum() == 180


def test_progress_that_samples_bear_out_stays() -> None:
    told = Progress(START_MS, START_MS - HOUR_MS, START_MS - DAY_MS)
    assert believable(told, START_MS - 1, START_MS - DAY_MS + 1) == told
    assert believable(told, None, None) == Progress()


def test_a_late_sample_is_in_every_answer_from_its_acknowledgement_on(store: DuckDBStore) -> None:
    put_hours(store, 10)
    store.retain(START_MS + 10 * HOUR_MS + 60_000, 30 * DAY_MS, rollup_ms=KEEP_MS)
    plain, cached = Engine(store), Engine(store, cache=RangeCache(store.changes, 1 << 24))
    grid = (START_MS + HOUR_MS, START_MS + 9 * HOUR_MS, FIVE_MS)

    def highest() -> set[float]:
        query = "max_over_time(up[5m])"
        return {float(one.range(query, *grid).values.max()) for one in (plain, cached)}

    assert highest() == {1.0}
    put(store, START_MS + 3 * HOUR_MS + 1, value=100.0)
    assert not store._ingest.tail.is_empty()
    assert highest() == {100.0}
    store.reclaim()
    assert store._ingest.tail.is_empty()
    assert highest() == {100.0}
    before = store.changes.version()
    store.retain(START_MS + 10 * HOUR_MS + 60_000, 30 * DAY_MS, rollup_ms=KEEP_MS)
    assert store.rollup_span().rolled_until_ms == START_MS + 10 * HOUR_MS
    bucket_ms = START_MS + 3 * HOUR_MS + FIVE_MS
    changed = store.changes.changed_since(before) or []
    assert any(low <= bucket_ms <= high for low, high in changed)
    assert highest() == {100.0}


def test_a_stamp_older_than_the_raw_samples_does_not_turn_roll_ups_off(
    store: DuckDBStore,
) -> None:
    put_hours(store, 6)
    store.retain(START_MS + 6 * HOUR_MS + 60_000, 2 * HOUR_MS, rollup_ms=KEEP_MS)
    before = store.rollup_span()
    assert before.raw_after_ms > START_MS
    put(store, 0, START_MS + 1)
    assert store.rollup_span() == before
    store.reclaim()
    assert store.rollup_span() == before


def test_the_head_is_placed_within_its_bound_and_where_most_series_write(tmp_path: Path) -> None:
    limits = replace(LAZY, head_max_samples=100)
    with DuckDBStore.open(tmp_path, limits=limits) as store:
        for name in "abcd":
            put(store, *range(START_MS, START_MS + HOUR_MS, 1_000), labels=Labels.of(__name__=name))
        put(store, *range(START_MS - DAY_MS, START_MS - DAY_MS + 5_000), labels=UP)
    with DuckDBStore.open(tmp_path, limits=limits) as store:
        assert 0 < store._head.rows <= 100
        assert START_MS < store._head.floor_ms < START_MS + HOUR_MS
        assert len(store.select(ALL, 0, START_MS + DAY_MS).ts_ms) == 4 * 3_600 + 5_000


def test_the_head_is_placed_where_most_series_are_written() -> None:
    dead = START_MS - DAY_MS * np.arange(1, 300, dtype=np.int64)
    live = np.full(20, START_MS)
    ahead = np.full(4, START_MS + 40 * DAY_MS)
    assert _typical_newest(np.concatenate([dead, live, ahead])) == START_MS


def test_the_head_shrinks_in_one_step_however_a_senders_clock_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = Head(StoreLimits(head_max_samples=1_000))
    raised: list[int] = []
    plain = Head._raise_floor

    def told(self: Head, floor_ms: int) -> None:
        raised.append(floor_ms)
        plain(self, floor_ms)

    monkeypatch.setattr(Head, "_raise_floor", told)
    for second in range(0, 600, 15):
        live = START_MS + second * 1_000 + np.arange(90, dtype=np.int64)
        ts_ms = np.concatenate([live, live[:60] + HOUR_MS])
        raised.clear()
        head.push(Columns(np.zeros(150, np.int32), ts_ms, np.zeros(150, np.int64)))
        assert len(raised) <= 2
        assert head.rows <= 1_000


def test_rounds_from_the_future_move_the_head_by_a_window_at_most() -> None:
    limits = StoreLimits()
    head = Head(limits)

    def push(ts_ms: int) -> None:
        head.push(Columns(np.zeros(1, np.int32), np.array([ts_ms]), np.zeros(1, np.int64)))

    push(START_MS)
    push(START_MS + 365 * DAY_MS)
    assert head.floor_ms <= START_MS
    # Rounds that are above the floor now and then do not hide that most lie below it.
    for _ in range(10):
        push(START_MS + 365 * DAY_MS)
    for number in range(200):
        push(START_MS + 365 * DAY_MS if number % 10 == 0 else START_MS)
    assert head.misses()


def test_roll_ups_made_while_a_deletion_runs_are_thrown_away(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_hours(store, 2)
    rollups = store._upkeep.rollups
    until_ms = START_MS + 2 * HOUR_MS
    store._writer.run(lambda c: rollups._claim(c, until_ms)).result(timeout=60)
    deleting, read = threading.Event(), threading.Event()
    delete, rolled = Rollups.delete, Rollups._rolled

    def slow_delete(self: Rollups, connection: Connection, start_ms: int, end_ms: int) -> int:
        gone = delete(self, connection, start_ms, end_ms)
        deleting.set()
        assert read.wait(60)
        return gone

    def told(self: Rollups, raw: pa.Table) -> pa.Table:
        read.set()
        return rolled(self, raw)

    monkeypatch.setattr(Rollups, "delete", slow_delete)
    monkeypatch.setattr(Rollups, "_rolled", told)
    deleter = threading.Thread(target=lambda: store.delete_series(ALL, 0, START_MS + DAY_MS))
    deleter.start()
    assert deleting.wait(60)
    rollups._roll_slice(lambda work: store._writer.run(work).result(timeout=60), until_ms)
    deleter.join(60)
    assert (
        rollups.rollups(ALL, 0, START_MS + DAY_MS, columns=("count",), max_samples=99).series == ()
    )


def test_upkeep_that_fails_is_told_and_writing_goes_on(store: DuckDBStore) -> None:
    def fail(_: Connection) -> None:
        raise MemoryError

    store._writer.wants_upkeep, store._writer.upkeep = lambda: True, fail
    put(store, START_MS)
    wait_until(lambda: "MemoryError" in store.stats().error)
    put(store, START_MS + 1)
    assert len(store.select(ALL, 0, START_MS + 1).ts_ms) == 2


def test_when_the_writing_thread_ends_everybody_is_told(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path, limits=LAZY) as store:
        put(store, START_MS)
        writer = store._writer
        release, holding = threading.Event(), threading.Event()

        def hold(_: Connection) -> None:
            holding.set()
            assert release.wait(60)

        def fail() -> bool:
            raise RuntimeError("beyond repair")

        held = writer.run(hold)
        assert holding.wait(60)
        waiting = store.append(SampleBatch.of_rows([(UP, START_MS + 1, 1.0)]))
        writer._is_due = fail  # type: ignore[method-assign]
        release.set()
        held.result(timeout=60)
        with pytest.raises(StoreUnavailable, match="beyond repair"):
            waiting.result(timeout=60)
        with pytest.raises(StoreUnavailable, match="beyond repair"):
            put(store, START_MS + 2)
        with pytest.raises(StoreUnavailable, match="beyond repair"):
            store.reclaim()
        assert "beyond repair" in store.stats().error
        assert store.stats().queued_batches == 0
    with DuckDBStore.open(tmp_path) as store:
        assert store.select(ALL, 0, START_MS + 9).ts_ms.tolist() == [START_MS]


def test_what_a_failed_flush_left_goes_in_without_a_further_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = threading.Event()
    commit = Flusher._commit

    def once(self: Flusher, connection: Connection) -> None:
        if not failed.is_set():
            failed.set()
            raise duckdb.IOException("IO Error: no space left")
        commit(self, connection)

    monkeypatch.setattr(Flusher, "_commit", once)
    with DuckDBStore.open(None, limits=replace(LAZY, flush_rows=1)) as store:
        put(store, START_MS)
        assert failed.wait(60)
        wait_until(store._ingest.tail.is_empty)


NEVER = 1 << 60


@pytest.mark.parametrize("large_bytes", [0, NEVER], ids=["in the commit", "after it"])
def test_a_checkpoint_that_fails_stops_no_reader_and_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_bytes: int
) -> None:
    monkeypatch.setattr(Flusher, "large_bytes", large_bytes)
    with DuckDBStore.open(tmp_path, limits=LAZY) as store:

        def told() -> list[Any]:
            return store.events(0, START_MS + 1).column("event_id").to_pylist()

        for event_id in ("1", "2"):
            store.append(order(event_id)).result(timeout=60)
            store._database.writer.execute("SET debug_checkpoint_abort = 'before_header'")
            with pytest.raises(StoreUnavailable, match="aborted"):
                store.reclaim()
            assert told()[-1] == event_id
        assert store._ingest.tail.is_empty() == (large_bytes == NEVER)
        store.reclaim()
        assert store._ingest.tail.is_empty()
        assert told() == ["1", "2"]
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.CLEAN
        assert told() == ["1", "2"]


@pytest.mark.parametrize("refused", [False, True])
def test_after_a_large_flush_a_commit_is_no_checkpoint_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    commit = Flusher._commit

    def refuse(self: Flusher, connection: Connection) -> None:
        if refused:
            raise duckdb.IOException("IO Error: no space left")
        commit(self, connection)

    monkeypatch.setattr(Flusher, "large_bytes", 0)
    with DuckDBStore.open(tmp_path, limits=LAZY) as store:
        put(store, START_MS)
        monkeypatch.setattr(Flusher, "_commit", refuse)
        with nullcontext() if not refused else pytest.raises(StoreUnavailable):
            store.reclaim()
        monkeypatch.setattr(Flusher, "_commit", commit)
        monkeypatch.setattr(Flusher, "large_bytes", NEVER)
        before = store._database.wal_bytes()
        put(store, START_MS + 1)
        store._writer.run(lambda connection: None).result(timeout=60)
        assert store._database.wal_bytes() > before


def test_a_batch_without_rows_is_taken_and_leaves_nothing(store: DuckDBStore) -> None:
    for batch in (
        SpanBatch(SPAN_SCHEMA.empty_table()),
        SpanBatch(SPAN_CODED_SCHEMA.empty_table()),
        EventBatch(EVENT_SCHEMA.empty_table()),
        LogBatch(LOG_SCHEMA.empty_table()),
    ):
        store.append(batch).result(timeout=60)
    assert store._ingest.tail.is_empty()
    put(store, START_MS)
    assert store.select(ALL, 0, START_MS).ts_ms.tolist() == [START_MS]


def test_a_deletion_that_fails_late_leaves_no_row_in_memory(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, START_MS)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(type(store._upkeep), "_measure_chosen", fail)
    with pytest.raises(MemoryError):
        store.delete_series(ALL, 0, START_MS)
    assert len(store.select(ALL, 0, START_MS).ts_ms) == 0


def test_series_times_that_grow_under_a_reader_are_read_as_far_as_both_reach() -> None:
    times = SeriesTimes()
    times.first_ms = np.zeros(2048, dtype=np.int64)  # `last_ms` has not grown yet
    times.last_ms[:] = 5
    assert times.overlapping(np.array([1, 2000], dtype=np.int32), 0, 9).tolist() == [1]
