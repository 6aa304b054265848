"""Retention, the queue's bounds, group commit, the head in memory, and the event filter."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.backends.duckdb.bloom import Bloom
from store.backends.duckdb.database import Connection
from store.backends.duckdb.head import Columns, Head
from store.errors import LimitExceeded, Overloaded, StoreUnavailable
from store.model import (
    EVENT_SCHEMA,
    SPAN_SCHEMA,
    Batch,
    EventBatch,
    Labels,
    Matcher,
    MatchOp,
    SampleBatch,
    SpanBatch,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
UP = Labels.of(__name__="up")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    with DuckDBStore.open(tmp_path) as opened:
        yield opened


def put(store: DuckDBStore, labels: Labels, ts_ms: int, value: float = 1.0) -> None:
    store.append(SampleBatch.of_rows([(labels, ts_ms, value)])).result(timeout=60)


def span_at(ms: int, number: int, service: str = "shop") -> SpanBatch:
    row = {
        "trace_id": number.to_bytes(16, "big"),
        "span_id": number.to_bytes(8, "big"),
        "start_ns": ms * 1_000_000,
        "end_ns": ms * 1_000_000 + 1,
        "service": service,
        "name": "GET",
        "kind": 2,
        "status": 0,
        "received_ms": ms,
    }
    return SpanBatch(pa.Table.from_pylist([row], schema=SPAN_SCHEMA))


def event_at(ms: int, event_id: str) -> EventBatch:
    row: dict[str, Any] = {
        "event_id": event_id,
        "source": "web",
        "type": "purchase",
        "ts_ms": ms,
        "bot": False,
        "test": False,
        "received_ms": ms,
    }
    return EventBatch(pa.Table.from_pylist([row], schema=EVENT_SCHEMA))


def block(store: DuckDBStore) -> tuple[threading.Event, "Future[Any]"]:
    """Hold the writer until the event is set."""
    release, holding = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        holding.set()
        release.wait(60)

    done = store._writer.run(hold)
    assert holding.wait(60)
    return release, done


def test_retention_removes_what_is_old_and_series_without_samples(store: DuckDBStore) -> None:
    old = Labels.of(__name__="old")
    for hour in range(30):
        put(store, UP, hour * HOUR_MS)
    put(store, old, HOUR_MS)
    for number, hour in enumerate((1, 2, 29)):
        name = "gone" if hour < 5 else "shop"
        store.append(span_at(hour * HOUR_MS, number, name)).result(timeout=60)
        store.append(event_at(hour * HOUR_MS, str(number))).result(timeout=60)
    assert set(store.services()) == {"gone", "shop"}

    taken = store.retain(now_ms=30 * HOUR_MS, raw_ms=10 * HOUR_MS)

    assert taken.rows == {
        "samples": 21,
        "exemplars": 0,
        "histograms": 0,
        "spans": 2,
        "events": 2,
        "logs": 0,
        "rollups": 0,
    }
    assert taken.series == 1
    assert store.select([], 0, DAY_MS * 9).ts_ms.tolist() == [h * HOUR_MS for h in range(20, 30)]
    assert store.series([], 0, DAY_MS * 9) == [UP]
    assert store.services() == {"shop": ["GET"]}
    assert store.events(0, DAY_MS * 9).column("event_id").to_pylist() == ["2"]
    assert store.stats().oldest_sample_ms == 20 * HOUR_MS
    put(store, old, 29 * HOUR_MS, 4.0)
    assert store.select([Matcher("__name__", MatchOp.EQUAL, "old")], 0, DAY_MS * 9).values == [4.0]


def test_numbers_are_never_given_again_after_retention_and_restart(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        put(store, UP, 1_000)
        store.append(span_at(1_000, 1)).result(timeout=60)
        store.append(event_at(1_000, "1")).result(timeout=60)
        store.retain(now_ms=DAY_MS, raw_ms=HOUR_MS)
        assert store.spans_after(0).num_rows == store.events_after(0).num_rows == 0
        assert store.stats().series == 0
    with DuckDBStore.open(tmp_path) as store:
        other = Labels.of(__name__="other")
        put(store, other, DAY_MS)
        store.append(span_at(DAY_MS, 2)).result(timeout=60)
        store.append(event_at(DAY_MS, "1")).result(timeout=60)
        assert store.spans_after(1).num_rows == 1
        assert store.events_after(1).num_rows == 1
        assert store.select([], 0, 2 * DAY_MS).series == (other,)


@pytest.mark.slow
def test_retention_by_bytes_takes_the_oldest_and_gives_space_back(tmp_path: Path) -> None:
    noise = np.random.default_rng(3)
    series = tuple(Labels.of(__name__="m", n=str(n)) for n in range(100))

    def fill(store: DuckDBStore, hour: int) -> None:
        rows = 200_000
        batch = SampleBatch(
            series,
            noise.integers(0, 100, rows, dtype=np.int32),
            hour * HOUR_MS + np.sort(noise.integers(0, HOUR_MS, rows)),
            noise.random(rows),
        )
        store.append(batch).result(timeout=60)

    with DuckDBStore.open(tmp_path) as store:
        for hour in range(8):
            fill(store, hour)
        before = store.retain(now_ms=8 * HOUR_MS, raw_ms=DAY_MS)
        assert before.rows["samples"] == 0
        most = 9_000_000
        taken = store.retain(now_ms=8 * HOUR_MS, raw_ms=DAY_MS, max_bytes=most)
        assert taken.used_bytes <= most
        kept = store.select([], 0, DAY_MS).ts_ms
        assert len(kept)
        assert kept.min() >= taken.cutoff_ms - 1
        assert kept.max() >= 7 * HOUR_MS
        for hour in range(8, 16):
            fill(store, hour)
            store.retain(now_ms=hour * HOUR_MS, raw_ms=DAY_MS, max_bytes=most)
        peak = store.stats().disk_bytes
    assert peak < 6 * most


def test_a_full_queue_sheds_and_what_was_queued_is_still_written(tmp_path: Path) -> None:
    limits = StoreLimits(max_queue_batches=3)
    with DuckDBStore.open(tmp_path, limits=limits) as store:
        release, held = block(store)
        waiting = [store.append(SampleBatch.of_rows([(UP, n * 1_000, 1.0)])) for n in range(3)]
        with pytest.raises(Overloaded) as raised:
            store.append(SampleBatch.of_rows([(UP, 9_000, 1.0)]))
        assert raised.value.retry_after_s >= 1
        assert store.stats().queued_batches == 3
        release.set()
        held.result(timeout=60)
        for done in waiting:
            done.result(timeout=60)
        assert store.select([], 0, 10_000).ts_ms.tolist() == [0, 1_000, 2_000]
        assert store.stats().queued_batches == store.stats().queued_bytes == 0


def test_the_queue_is_bounded_in_bytes_but_takes_one_large_batch(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path, limits=StoreLimits(max_queue_bytes=1_000)) as store:
        release, _ = block(store)
        large = SampleBatch.of_rows([(UP, ts, 1.0) for ts in range(500)])
        done = store.append(large)
        with pytest.raises(Overloaded):
            store.append(SampleBatch.of_rows([(UP, 1, 1.0)]))
        release.set()
        done.result(timeout=60)


def test_batches_of_one_round_share_a_transaction(store: DuckDBStore) -> None:
    release, _ = block(store)
    batches: list[Batch] = [
        SampleBatch.of_rows([(UP, 1_000, 1.0)]),
        span_at(1_000, 1),
        event_at(1_000, "1"),
        SampleBatch.of_rows([(UP, 1_000, 2.0)]),
    ]
    waiting = [store.append(batch) for batch in batches]
    before = store.stats().commits
    release.set()
    for done in waiting:
        done.result(timeout=60)
    assert store.stats().commits == before + 1
    assert store.select([], 0, 2_000).values.tolist() == [2.0]


def test_a_batch_that_fails_alone_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    # Both of these fit when they are queued; only one fits when it is written.
    with DuckDBStore.open(tmp_path, limits=StoreLimits(max_series=2)) as store:
        put(store, UP, 1_000)
        release, _ = block(store)
        first = store.append(SampleBatch.of_rows([(Labels.of(a="1"), 2_000, 1.0)]))
        second = store.append(SampleBatch.of_rows([(Labels.of(a="2"), 2_000, 1.0)]))
        third = store.append(SampleBatch.of_rows([(UP, 3_000, 1.0)]))
        release.set()
        first.result(timeout=60)
        with pytest.raises(LimitExceeded):
            second.result(timeout=60)
        third.result(timeout=60)
        assert store.stats().series == 2
        assert len(store.select([], 0, 9_000).ts_ms) == 3


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    store = DuckDBStore.open(tmp_path)
    release, _ = block(store)
    done = store.append(SampleBatch.of_rows([(UP, 1_000, 1.0)]))
    closing = threading.Thread(target=store.close)
    closing.start()
    release.set()
    closing.join(60)
    done.result(timeout=1)
    with pytest.raises(StoreUnavailable):
        store.append(SampleBatch.of_rows([(UP, 2_000, 1.0)]))
    with DuckDBStore.open(tmp_path) as again:
        assert again.select([], 0, 9_000).ts_ms.tolist() == [1_000]


def test_events_stay_unique_over_a_restart(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        store.append(event_at(1_000, "1")).result(timeout=60)
    with DuckDBStore.open(tmp_path) as store:
        store.append(event_at(30 * DAY_MS, "1")).result(timeout=60)
        store.append(event_at(2_000, "2")).result(timeout=60)
        found = store.events(0, 99 * DAY_MS)
        assert found.column("event_id").to_pylist() == ["1", "2"]
        assert found.column("seq").to_pylist() == [1, 2]


def test_warming_meets_every_kernel_in_a_fresh_process() -> None:
    script = """
from store.backends.duckdb import bloom, kernels, rollup_kernels, warm_kernels
warm_kernels()
for module in (kernels, bloom, rollup_kernels):
    for name, kernel in vars(module).items():
        if hasattr(kernel, "signatures"):
            print(name, len(kernel.signatures))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    compiled = dict(line.split() for line in done.stdout.splitlines() if line.count(" ") == 1)
    assert {"scatter_by_slot", "join_slots", "flatten_blocks", "_test_bits", "roll"} <= set(
        compiled
    )
    assert "0" not in compiled.values()


def test_stats_tell_sizes_and_times(store: DuckDBStore) -> None:
    assert store.stats().oldest_sample_ms is None
    put(store, UP, 1_000)
    put(store, UP, 5_000)
    stats = store.stats()
    assert (stats.series, stats.samples, stats.samples_written) == (1, 2, 2)
    assert (stats.oldest_sample_ms, stats.newest_sample_ms) == (1_000, 5_000)
    assert stats.disk_bytes >= stats.log_bytes > 0
    assert stats.last_commit_s > 0
    assert stats.error == ""
    assert store.cardinality(1)["seriesCountByMetricName"] == [("up", 1)]


rounds = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100)), min_size=1, max_size=30),
    min_size=1,
    max_size=20,
)


@settings(max_examples=50)
@given(rounds=rounds, most=st.integers(5, 60))
def test_the_head_holds_exactly_what_lies_above_its_floor(rounds: Any, most: int) -> None:
    head = Head(StoreLimits(head_window_ms=20, head_max_samples=most))
    written: list[tuple[int, int, int]] = []
    for rows in rounds:
        numbered = [(n, ts, len(written) + i) for i, (n, ts) in enumerate(rows)]
        written += numbered
        series, ts, bits = (np.array(column) for column in zip(*numbered, strict=True))
        head.push(Columns(series.astype(np.int32), ts, bits))
        floor_ms, found = head.read(np.arange(6, dtype=np.int32), -100, 1_000)
        expected = [row for row in sorted(written, key=lambda row: row[0]) if row[1] >= floor_ms]
        assert found.bits.tolist() == [row[2] for row in expected]
        assert found.ts_ms.tolist() == [row[1] for row in expected]
        assert head.rows <= most


def test_a_stamp_from_the_future_does_not_blind_the_head_for_good(tmp_path: Path) -> None:
    limits = StoreLimits(head_window_ms=10 * MINUTE_MS)
    with DuckDBStore.open(tmp_path, limits=limits) as store:
        put(store, UP, 1_000)
        put(store, UP, 10**14)
        for number in range(70):
            put(store, UP, 2_000 + number * 1_000)
        assert len(store.select([], 0, 10**6).ts_ms) == 71
        assert store._head.floor_ms < 2_000
        assert len(store.select([], 0, 10**15).ts_ms) == 72


@settings(max_examples=30)
@given(keys=st.lists(st.integers(0, 2**64 - 1), max_size=300))
def test_the_filter_never_forgets_a_key(keys: list[int]) -> None:
    bloom = Bloom()
    array = np.array(keys, dtype=np.uint64)
    bloom.add(array)
    assert bloom.may_hold(array).all()


def test_the_filter_grows_and_rarely_cries_wolf() -> None:
    bloom = Bloom()
    dice = np.random.default_rng(1)
    seen = dice.integers(0, 2**64 - 1, 200_000, dtype=np.uint64)
    bloom.add(seen)
    other = dice.integers(0, 2**64 - 1, 100_000, dtype=np.uint64)
    assert bloom.may_hold(seen).all()
    assert bloom.may_hold(other).mean() < 0.001
