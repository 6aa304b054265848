"""What every store backend must do at rest: deleting, ageing, rolling up, copying, counting.

A backend that is to be added makes a `Case` of its own in `CASES`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.backends.duckdb import DuckDBStore
from store.model import STALE_NAN_BITS, Labels, Matcher, MatchOp, SampleBatch
from store.ports import ROLLUP_MS, RollupReader, SpaceReclaimer, TsdbReader

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_795_773_600_000
END_MS = START_MS + 8 * HOUR_MS
STALE = float(np.array([STALE_NAN_BITS]).view(np.float64)[0])
UP = Labels.of(__name__="up", job="shop")
DOWN = Labels.of(__name__="up", job="other")
ALL = (Matcher("__name__", MatchOp.NOT_EQUAL, ""),)
Case = Callable[[Path], Any]

CASES: dict[str, Case] = {
    "duckdb on disk": DuckDBStore.open,
    "duckdb in memory": lambda _directory: DuckDBStore.open(None),
}


@pytest.fixture(params=sorted(CASES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with CASES[request.param](tmp_path) as opened:
        yield opened


def put(store: Any, *rows: tuple[Labels, int, float]) -> None:
    store.append(SampleBatch.of_rows(rows)).result(timeout=60)


def fill(store: Any) -> None:
    """Six hours of two series, a sample a minute."""
    minutes = range(1, 6 * 60 + 1)
    put(
        store,
        *((labels, START_MS + m * 60_000, float(m)) for m in minutes for labels in (UP, DOWN)),
    )


def age(store: Any, now_ms: int, raw_ms: int) -> None:
    store.retain(now_ms, raw_ms, rollup_ms=400 * DAY_MS)


def of_job(job: str) -> tuple[Matcher, ...]:
    return (Matcher("job", MatchOp.EQUAL, job),)


def test_it_has_the_ports_of_upkeep(store: Any) -> None:
    assert all(isinstance(store, port) for port in (RollupReader, TsdbReader, SpaceReclaimer))
    assert store.delete_series(ALL, 0, END_MS) == 0


def test_what_is_deleted_is_in_no_answer_and_the_rest_is(store: Any) -> None:
    fill(store)
    gone = store.delete_series(of_job("other"), START_MS + HOUR_MS, START_MS + 2 * HOUR_MS)
    assert gone == 61
    times = store.select(of_job("other"), START_MS, END_MS).ts_ms
    assert not ((times >= START_MS + HOUR_MS) & (times <= START_MS + 2 * HOUR_MS)).any()
    assert len(times) == 360 - 61
    assert len(store.select(of_job("shop"), START_MS, END_MS).ts_ms) == 360
    store.reclaim()
    store.delete_series(of_job("other"), 0, END_MS)
    assert store.series(ALL, 0, END_MS) == [UP]
    assert store.label_values("job", (), 0, END_MS) == ["shop"]
    put(store, (DOWN, START_MS, 5.0))
    assert store.select(of_job("other"), 0, END_MS).values.tolist() == [5.0]


def test_a_roll_up_tells_what_its_samples_told(store: Any) -> None:
    put(
        store,
        *((UP, START_MS + at_s * 1000, value) for at_s, value in
          ((1, 4.0), (60, 9.0), (120, 2.0), (300, 3.0), (301, 7.0), (400, STALE))),
    )  # fmt: skip
    age(store, START_MS + 2 * HOUR_MS, DAY_MS)
    names = ("first", "first_at", "last", "last_at", "low", "high", "total", "count", "resets")
    found = store.rollups(ALL, 0, END_MS, columns=(*names, "stale_at"))
    assert found.series == (UP,)
    assert found.bucket_ms.tolist() == [START_MS + ROLLUP_MS, START_MS + 2 * ROLLUP_MS]
    assert {name: column.tolist() for name, column in found.columns.items()} == {
        "first": [4.0, 7.0],
        "first_at": [-299_000, -299_000],
        "last": [3.0, 7.0],
        "last_at": [0, -299_000],
        "low": [2.0, 7.0],
        "high": [9.0, 7.0],
        "total": [18.0, 7.0],
        "count": [4, 1],
        "resets": [9.0, 0.0],
        "stale_at": [1, -200_000],
    }
    assert store.rollups(
        ALL, START_MS + ROLLUP_MS, END_MS, columns=("low",)
    ).bucket_ms.tolist() == [START_MS + 2 * ROLLUP_MS]


def test_where_raw_samples_are_gone_the_last_of_each_five_minutes_is_left(store: Any) -> None:
    fill(store)
    age(store, START_MS + 8 * HOUR_MS, 5 * HOUR_MS)
    span = store.rollup_span()
    assert span.raw_after_ms == store.raw_after_ms()
    assert span.rolled_until_ms >= START_MS + 6 * HOUR_MS
    assert START_MS + 2 * HOUR_MS < span.raw_after_ms < START_MS + 3 * HOUR_MS
    times = store.select(of_job("shop"), 0, END_MS).ts_ms
    old = times[times <= span.raw_after_ms]
    assert (np.diff(times) > 0).all()
    assert (old % ROLLUP_MS == 0).all()
    assert len(old) == (span.raw_after_ms - START_MS) // ROLLUP_MS
    assert len(times) - len(old) == (START_MS + 6 * HOUR_MS - span.raw_after_ms) // 60_000


def test_a_status_counts_series_and_labels(store: Any) -> None:
    assert store.tsdb_status(5).series == 0
    assert store.tsdb_status(5).oldest_ms is None
    fill(store)
    put(store, (Labels.of(__name__="down", job="shop"), START_MS + 1, 1.0))
    status = store.tsdb_status(2)
    assert (status.series, status.label_pairs) == (3, 4)
    assert (status.oldest_ms, status.newest_ms) == (START_MS + 1, START_MS + 6 * HOUR_MS)
    assert list(status.by_metric) == [("up", 2), ("down", 1)]
    assert list(status.values_by_label) == [("__name__", 2), ("job", 2)]
    assert list(status.bytes_by_label) == [("job", 13), ("__name__", 8)]
    assert next(iter(status.by_pair)) in {("__name__=up", 2), ("job=shop", 2)}
    assert status.chunks > 0
