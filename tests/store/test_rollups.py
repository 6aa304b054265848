"""Five-minute roll-ups: the same answers as raw samples, and what is left when those are gone."""

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.backends.duckdb import DuckDBStore
from store.errors import QueryError
from store.model import (
    STALE_NAN_BITS,
    InstantVector,
    Labels,
    Matcher,
    MatchOp,
    RangeMatrix,
    SampleBatch,
    SeriesSet,
)
from store.ports import RollupReader
from store.promql.engine import Engine
from store.promql.rollup_path import COARSE

MINUTE_MS = 60_000
FIVE_MS = 5 * MINUTE_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
KEEP_MS = 400 * DAY_MS
START_MS = 1_795_773_600_000
STALE = float(np.array([STALE_NAN_BITS]).view(np.float64)[0])
UP = Labels.of(__name__="up")
ALL = (Matcher("__name__", MatchOp.NOT_EQUAL, ""),)
EXACT = ("min", "max", "count", "present", "first", "last")
ROUNDED = ("sum", "avg")
CHANGES = ("rate", "increase", "delta")


class RawOnly:
    """The same store without its roll-ups."""

    def __init__(self, store: DuckDBStore) -> None:
        self._store = store

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, max_samples: int = 10**7
    ) -> SeriesSet:
        return self._store.select(matchers, start_ms, end_ms, max_samples=max_samples)


@pytest.fixture
def store() -> Iterator[DuckDBStore]:
    with DuckDBStore.open(None) as opened:
        yield opened


def put(store: DuckDBStore, *rows: tuple[Labels, int, float]) -> None:
    store.append(SampleBatch.of_rows(list(rows))).result(timeout=60)


def fill(store: DuckDBStore, hours: int, every_ms: int = MINUTE_MS) -> None:
    """A counter that ascends by one a sample, from the start on."""
    count = hours * HOUR_MS // every_ms
    times = START_MS + np.arange(count, dtype=np.int64) * every_ms
    batch = SampleBatch(
        (Labels.of(__name__="orders_total"),),
        np.zeros(count, dtype=np.int32),
        times,
        np.arange(count, dtype=np.float64),
    )
    store.append(batch).result(timeout=60)


def roll(store: DuckDBStore, hours: float, raw_ms: int = KEEP_MS) -> int:
    """Run upkeep so many hours after the start; how many rows were rolled."""
    return store.retain(START_MS + int(hours * HOUR_MS), raw_ms, rollup_ms=KEEP_MS).rolled


value = st.one_of(
    st.integers(0, 20).map(float),
    st.floats(-1e9, 1e9),
    st.sampled_from([math.nan, STALE, math.inf, -math.inf, 1e300, -1e300, 0.0, -0.0, 1e15]),
)
samples = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 7 * 3600), value), min_size=1, max_size=150
)
# Times by the quarter minute too, as scrapes come, so that buckets hold several.
dense = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 7 * 240).map(lambda n: 15 * n), value),
    min_size=1,
    max_size=300,
)


def matrix(engine: Engine, query: str, grid: tuple[int, int, int]) -> RangeMatrix:
    """An answer that came without infos but those on names."""
    answer = engine.query_range(query, *grid)
    assert not any(COARSE in info for info in answer.infos)
    return cast(RangeMatrix, answer.result)


def same(one: np.ndarray, other: np.ndarray, largest: float) -> bool:
    """The same but for rounding: of the answer itself, or of the largest sample it is made of."""
    return np.allclose(one, other, rtol=1e-12, atol=1e-14 * largest, equal_nan=True)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.one_of(samples, dense),
    window=st.sampled_from([5, 10, 60]),
    step=st.sampled_from([5, 15]),
    offset=st.sampled_from([0, 5]),
)
def test_a_long_aligned_query_answers_the_same_from_roll_ups(
    rows: list[tuple[int, int, float]], window: int, step: int, offset: int
) -> None:
    with DuckDBStore.open(None) as store:
        put(
            store,
            *(
                (Labels.of(__name__="x_total", n=str(n)), START_MS + s * 1000, v)
                for n, s, v in rows
            ),
        )
        roll(store, 9)
        largest = max((abs(v) for _, _, v in rows if math.isfinite(v)), default=0.0)
        fast, plain = Engine(store), Engine(RawOnly(store))
        grid = (START_MS, START_MS + 8 * HOUR_MS, step * MINUTE_MS)
        names = [f"{name}_over_time" for name in (*EXACT, *ROUNDED)] + list(CHANGES)
        queries = [(name, f"{name}(x_total[{window}m] offset {offset}m)") for name in names]
        for name, query in [*queries, ("instant", f"x_total offset {offset}m")]:
            got, expected = matrix(fast, query, grid), matrix(plain, query, grid)
            assert got.series == expected.series, query
            present = expected.present
            assert np.array_equal(got.present, present), query
            one, other = got.values[present], expected.values[present]
            if name in {"rate", "increase"}:
                assert same(one, other, largest), query
            elif name in {"sum_over_time", "avg_over_time"}:
                assert same(one, other, 0.0), query
            else:
                assert np.array_equal(one, other, equal_nan=True), query


def test_roll_ups_are_read_where_they_do(store: DuckDBStore) -> None:
    fill(store, 12)
    assert isinstance(store, RollupReader)
    roll(store, 13)
    engine = Engine(store)
    end_ms = START_MS + 11 * HOUR_MS
    rolled = engine.query_range("rate(orders_total[1h])", START_MS, end_ms, HOUR_MS)
    assert rolled.stats.samples_read <= 13 * 12
    for query, step_ms in (
        ("rate(orders_total[1h])", HOUR_MS - 1),  # steps off the five minutes
        ("rate(orders_total[7m])", HOUR_MS),
        ("stddev_over_time(orders_total[1h])", HOUR_MS),
    ):
        raw = engine.query_range(query, START_MS + HOUR_MS, end_ms, step_ms)
        assert raw.stats.samples_read > 500, query
        assert raw.infos == ()


def test_the_newest_steps_are_read_raw_and_woven_in(store: DuckDBStore) -> None:
    fill(store, 12)
    put(store, (Labels.of(__name__="orders_total", shop="new"), START_MS + 11 * HOUR_MS, 5.0))
    roll(store, 10.5)
    assert store.rollup_span().rolled_until_ms == START_MS + 10 * HOUR_MS
    grid = (START_MS, START_MS + 12 * HOUR_MS, 30 * MINUTE_MS)
    for query in ("last_over_time(orders_total[30m])", "orders_total", "rate(orders_total[30m])"):
        got = Engine(store).range(query, *grid)
        expected = Engine(RawOnly(store)).range(query, *grid)
        assert got.series == expected.series
        assert np.array_equal(got.present, expected.present)
        assert np.array_equal(got.values[got.present], expected.values[got.present])


def test_last_year_is_still_there_when_raw_samples_are_gone(store: DuckDBStore) -> None:
    fill(store, 6)
    put(store, (UP, START_MS + 360 * DAY_MS, 1.0))  # data age by the newest of them
    grid = (START_MS + HOUR_MS, START_MS + 4 * HOUR_MS, HOUR_MS)
    queries = ("increase(orders_total[1h])", "max_over_time(orders_total[30m])", "orders_total")
    before = [Engine(store).range(query, *grid) for query in queries]
    taken = store.retain(START_MS + 360 * DAY_MS, 15 * DAY_MS, rollup_ms=KEEP_MS)
    assert taken.rows["samples"] == 360
    assert taken.series == 0
    assert store.series((), *grid[:2]) == [Labels.of(__name__="orders_total")]
    for query, expected in zip(queries, before, strict=True):
        assert np.array_equal(matrix(Engine(store), query, grid).values, expected.values), query
    left = store.select(ALL, START_MS, START_MS + DAY_MS)
    assert len(left.ts_ms) == 6 * 12 + 1
    assert np.array_equal(left.values[1:], np.append(np.arange(5, 360, 5), 359.0))


def test_a_window_off_the_grid_is_widened_and_the_query_told_so(store: DuckDBStore) -> None:
    fill(store, 6)
    put(store, (UP, START_MS + 360 * DAY_MS, 1.0))  # data age by the newest of them
    store.retain(START_MS + 360 * DAY_MS, 15 * DAY_MS, rollup_ms=KEEP_MS)
    engine = Engine(store)
    at_ms = START_MS + 2 * HOUR_MS + 123_456
    for query in ("rate(orders_total[5m]) * 60", "rate(orders_total[7m]) * 60",
                  "increase(orders_total[7m]) / 7"):  # fmt: skip
        answer = engine.query(query, at_ms)
        vector = cast(InstantVector, answer.result)
        assert [round(v, 6) for _, v in vector.items()] == [1.0], query
        assert len(answer.infos) == 1
        assert COARSE in answer.infos[0]
    answer = engine.query("stddev_over_time(orders_total[30m])", at_ms)
    assert COARSE in answer.infos[0]
    assert engine.query("orders_total", START_MS + 2 * HOUR_MS).infos == ()
    assert COARSE in engine.query("orders_total", at_ms).infos[0]


def test_a_series_that_ended_does_not_live_on_in_its_roll_up(store: DuckDBStore) -> None:
    put(store, (UP, START_MS + MINUTE_MS, 1.0), (UP, START_MS + 2 * MINUTE_MS, STALE))
    put(store, (Labels.of(__name__="late"), START_MS + 6 * MINUTE_MS, STALE))
    put(store, (Labels.of(__name__="now"), START_MS + 360 * DAY_MS, 1.0))
    store.retain(START_MS + 360 * DAY_MS, 15 * DAY_MS, rollup_ms=KEEP_MS)
    left = store.select(ALL, START_MS, START_MS + HOUR_MS)
    assert sorted((left.ts_ms - START_MS).tolist()) == [MINUTE_MS, 2 * MINUTE_MS, 6 * MINUTE_MS]
    engine = Engine(store)
    assert engine.instant("up", START_MS + FIVE_MS).series == ()
    assert engine.instant("count_over_time(up[5m])", START_MS + FIVE_MS).values.tolist() == [1.0]
    assert engine.instant("count_over_time(late[10m])", START_MS + 2 * FIVE_MS).series == ()


def test_a_late_sample_makes_its_bucket_again(store: DuckDBStore) -> None:
    fill(store, 4)
    assert roll(store, 5) == 4 * 12 + 1
    assert roll(store, 5) == 0
    at_ms = START_MS + 2 * HOUR_MS + 1
    orders, other = Labels.of(__name__="orders_total"), Labels.of(__name__="other")
    put(store, (orders, at_ms, 9_999.0), (other, at_ms, 3.0))
    put(store, (orders, START_MS + 6 * HOUR_MS, 1.0))  # not late: nothing is rolled there yet
    assert roll(store, 5) == 2
    high = store.rollups(ALL, 0, at_ms + FIVE_MS, columns=("high", "count"))
    found = dict(zip(high.series, high.offsets[1:] - 1, strict=True))
    assert high.columns["high"][found[orders]] == 9_999.0
    assert high.columns["count"][found[orders]] == 6
    assert high.columns["high"][found[other]] == 3.0
    assert roll(store, 5) == 0


def test_a_sample_written_twice_counts_once_and_the_later_one_wins(store: DuckDBStore) -> None:
    put(store, (UP, START_MS + 1, 1.0), (UP, START_MS + 2, 2.0))
    put(store, (UP, START_MS + 1, 5.0))
    roll(store, 2)
    found = store.rollups(ALL, START_MS, START_MS + HOUR_MS, columns=("count", "first", "total"))
    assert {name: column.tolist() for name, column in found.columns.items()} == {
        "count": [2],
        "first": [5.0],
        "total": [7.0],
    }


def test_a_late_sample_of_a_time_whose_raw_samples_are_gone_changes_nothing(
    store: DuckDBStore,
) -> None:
    fill(store, 6)
    roll(store, 8, raw_ms=4 * HOUR_MS)
    orders = Labels.of(__name__="orders_total")
    put(store, (orders, START_MS + HOUR_MS + 1, 9_999.0))
    roll(store, 8, raw_ms=4 * HOUR_MS)
    query = f"max_over_time({orders.metric}[5m])"
    assert Engine(store).instant(query, START_MS + HOUR_MS + FIVE_MS).values.tolist() == [65.0]


def test_roll_ups_go_by_their_own_age_and_then_the_series_goes(store: DuckDBStore) -> None:
    fill(store, 6)
    put(store, (UP, START_MS + 30 * DAY_MS, 1.0))
    store.retain(START_MS + 30 * DAY_MS, DAY_MS, rollup_ms=100 * DAY_MS)
    assert len(store.series((), 0, START_MS + 40 * DAY_MS)) == 2
    put(store, (UP, START_MS + 101 * DAY_MS, 1.0))
    taken = store.retain(START_MS + 101 * DAY_MS, DAY_MS, rollup_ms=100 * DAY_MS)
    assert taken.rows["rollups"] == 6 * 12 + 1
    assert taken.series == 1
    assert store.series((), 0, START_MS + 40 * DAY_MS) == [UP]


def test_deleting_a_series_deletes_its_roll_ups(store: DuckDBStore) -> None:
    fill(store, 6)
    put(store, (UP, START_MS + HOUR_MS, 1.0))
    roll(store, 8, raw_ms=4 * HOUR_MS)
    orders = (Matcher("__name__", MatchOp.EQUAL, "orders_total"),)
    # Within the gone part a bucket goes as a whole; within the raw part it is made again.
    store.delete_series(orders, START_MS + HOUR_MS, START_MS + HOUR_MS + 1)
    store.delete_series(orders, START_MS + 5 * HOUR_MS, START_MS + 5 * HOUR_MS)
    assert store.rollup_span().rolled_until_ms < START_MS + 5 * HOUR_MS
    roll(store, 8, raw_ms=4 * HOUR_MS)
    found = store.rollups(orders, 0, START_MS + DAY_MS, columns=("count",))
    counts = dict(
        zip((found.bucket_ms - START_MS).tolist(), found.columns["count"].tolist(), strict=True)
    )
    assert HOUR_MS not in counts
    assert HOUR_MS + FIVE_MS not in counts
    assert counts[2 * HOUR_MS] == 5
    assert counts[5 * HOUR_MS] == 4
    store.delete_series(orders, 0, START_MS + DAY_MS)
    assert store.series((), 0, START_MS + DAY_MS) == [UP]
    assert store.rollups(orders, 0, START_MS + DAY_MS, columns=("count",)).series == ()


def test_a_restart_goes_on_where_rolling_stopped(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        fill(store, 3)
        roll(store, 2.5, raw_ms=HOUR_MS)
        assert store.rollup_span().raw_after_ms == START_MS + HOUR_MS + 25 * MINUTE_MS
        put(store, (UP, START_MS + HOUR_MS + 50 * MINUTE_MS, 1.0))  # late
        put(store, (UP, START_MS + HOUR_MS, 1.0))  # later than the raw samples of its time live
    with DuckDBStore.open(tmp_path) as store:
        span = store.rollup_span()
        assert span.raw_after_ms == START_MS + HOUR_MS + 25 * MINUTE_MS
        assert span.rolled_until_ms == START_MS + HOUR_MS + 45 * MINUTE_MS
        assert store.series((), START_MS, START_MS + HOUR_MS - 1) == [
            Labels.of(__name__="orders_total")
        ]
        assert roll(store, 5) == 12 + 1
        found = store.rollups(ALL, 0, START_MS + DAY_MS, columns=("count",))
        assert len(found.bucket_ms) == 3 * 12 + 1 + 1
        assert found.columns["count"].sum() == 3 * 60 + 1


def test_too_many_roll_ups_are_refused_like_samples(store: DuckDBStore) -> None:
    fill(store, 6)
    roll(store, 8)
    with pytest.raises(QueryError, match="too many samples"):
        store.rollups(ALL, 0, START_MS + DAY_MS, columns=("count",), max_samples=10)


def test_size_takes_raw_samples_and_roll_ups_by_the_share_of_their_age(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        fill(store, 30)
        at_ms = START_MS + 31 * HOUR_MS
        taken = store.retain(at_ms, 10 * DAY_MS, max_bytes=1, rollup_ms=20 * DAY_MS)
        assert taken.rows["samples"] == 30 * 60
        assert taken.rows["rollups"] == 30 * 12 + 1
        assert taken.series == 1


def test_no_answer_falls_into_a_gap_while_raw_samples_go(store: DuckDBStore) -> None:
    fill(store, 24)
    roll(store, 26)
    lasts = set((START_MS + np.arange(4, 24 * 60, 5) * MINUTE_MS + MINUTE_MS).tolist())
    lasts.discard(START_MS + 24 * HOUR_MS)  # there is no sample at the very end
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            times = store.select(ALL, START_MS, START_MS + DAY_MS).ts_ms
            if (np.diff(times) <= 0).any() or not lasts <= set(times.tolist()):
                wrong.append(times)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for raw_h in range(20, 2, -3):
        roll(store, 26, raw_ms=raw_h * HOUR_MS)
    stop.set()
    for reader in readers:
        reader.join(60)
    assert wrong == []
    assert len(store.select(ALL, START_MS, START_MS + DAY_MS).ts_ms) < 24 * 60


def test_a_stamp_from_the_future_that_size_takes_hides_nothing(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        put(store, (UP, START_MS + 1000 * DAY_MS, 1.0))
        taken = store.retain(START_MS, DAY_MS, max_bytes=1, rollup_ms=KEEP_MS)
        assert taken.rows["samples"] == 1
        put(store, (UP, START_MS, 2.0))
        assert store.select(ALL, 0, START_MS + DAY_MS).values.tolist() == [2.0]
