"""Native histograms in the DuckDB store: read back as written, through restarts and deletions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.backends.duckdb import DuckDBStore
from store.backends.duckdb.histograms import MARK
from store.errors import BadInput, QueryError
from store.histograms import Buckets, NativeHistogram, ResetHint
from store.model import (
    HistogramSample,
    Labels,
    Matcher,
    MatchOp,
    SampleBatch,
    SeriesSet,
)
from store.promql.engine import Engine

H = Labels.of(__name__="h", job="shop")
OTHER = Labels.of(__name__="h", job="other")
F = Labels.of(__name__="f")
HOUR_MS = 3_600_000
ROOT = Path(__file__).parents[2]


def histogram(count: float) -> NativeHistogram:
    return NativeHistogram(count=count, sum=count / 2, positive=Buckets((0,), (float(count),)))


def batch(
    *samples: tuple[Labels, int, float | NativeHistogram], extra: tuple[Labels, ...] = ()
) -> SampleBatch:
    series = (*dict.fromkeys(labels for labels, _, _ in samples), *extra)
    floats = [(labels, at, value) for labels, at, value in samples if isinstance(value, float)]
    return SampleBatch(
        series,
        np.array([series.index(labels) for labels, _, _ in floats], dtype=np.int32),
        np.array([at for _, at, _ in floats], dtype=np.int64),
        np.array([value for _, _, value in floats], dtype=np.float64),
        histograms=tuple(
            HistogramSample(series.index(labels), at, value)
            for labels, at, value in samples
            if isinstance(value, NativeHistogram)
        ),
    )


def write(store: DuckDBStore, *samples: tuple[Labels, int, float | NativeHistogram]) -> None:
    store.append(batch(*samples)).result(timeout=60)


def select(store: DuckDBStore, name: str = "h", start_ms: int = 0) -> SeriesSet:
    return store.select([Matcher("__name__", MatchOp.EQUAL, name)], start_ms, 10**12)


def rows(found: SeriesSet) -> dict[Labels, list[tuple[int, float | NativeHistogram]]]:
    cells = [None] * len(found.ts_ms) if found.histograms is None else found.histograms.tolist()
    values = [
        value if cell is None else cell
        for value, cell in zip(found.values.tolist(), cells, strict=True)
    ]
    return {
        labels: list(zip(found.ts_ms[a:b].tolist(), values[a:b], strict=True))
        for labels, a, b in zip(found.series, found.offsets, found.offsets[1:], strict=False)
    }


@pytest.fixture
def store() -> Iterator[DuckDBStore]:
    with DuckDBStore.open(None) as opened:
        yield opened


def test_histograms_and_floats_of_a_series_come_back_in_order_of_time(store: DuckDBStore) -> None:
    write(store, (H, 1000, histogram(1)), (H, 3000, 7.0), (H, 2000, histogram(2)), (F, 1000, 5.0))
    assert rows(select(store)) == {H: [(1000, histogram(1)), (2000, histogram(2)), (3000, 7.0)]}
    assert rows(select(store, "f")) == {F: [(1000, 5.0)]}
    assert select(store, "f").histograms is None


def test_the_last_write_of_a_time_wins_whatever_its_kind(store: DuckDBStore) -> None:
    write(store, (H, 1000, histogram(1)), (H, 2000, 2.0))
    write(store, (H, 1000, histogram(3)), (H, 2000, histogram(4)))
    assert rows(select(store)) == {H: [(1000, histogram(3)), (2000, histogram(4))]}
    write(store, (H, 1000, 9.0))
    assert rows(select(store)) == {H: [(1000, 9.0), (2000, histogram(4))]}


def test_a_histogram_is_read_with_the_hint_of_the_one_before(store: DuckDBStore) -> None:
    gauge = histogram(9).with_hint(ResetHint.GAUGE)
    write(store, *((H, 1000 * at, histogram(at)) for at in range(1, 5)), (H, 9000, gauge))
    found = select(store, start_ms=3000)
    assert found.histograms is not None
    hints = [cell.reset_hint for cell in found.histograms.tolist()]
    assert hints == [ResetHint.NOT_RESET, ResetHint.NOT_RESET, ResetHint.GAUGE]


def test_histograms_survive_a_restart_flushed_or_not(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        write(store, (H, 1000, histogram(1)))
    with DuckDBStore.open(tmp_path) as store:
        write(store, (H, 2000, histogram(2)), (OTHER, 2000, histogram(5)))
        wanted = {H: [(1000, histogram(1)), (2000, histogram(2))], OTHER: [(2000, histogram(5))]}
        assert rows(select(store)) == wanted
    with DuckDBStore.open(tmp_path) as store:
        assert rows(select(store)) == wanted
        assert [labels.get("job") for labels in store.series([], 0, 10**12)] == ["other", "shop"]


CHILD = """
import os, sys
from pathlib import Path
from store.backends.duckdb import DuckDBStore
from store.model import SampleBatch
from tests.store.test_duckdb_histograms import H, histogram
store = DuckDBStore.open(Path(sys.argv[1]))
rows = [(H, 1000 * at, histogram(at)) for at in range(1, 4)]
store.append(SampleBatch.of_rows(rows)).result(timeout=60)
os._exit(9)
"""


def test_acknowledged_histograms_survive_the_end_of_the_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 9
    with DuckDBStore.open(tmp_path) as store:
        assert rows(select(store)) == {H: [(1000 * at, histogram(at)) for at in range(1, 4)]}


def test_deleting_a_series_takes_its_histograms(store: DuckDBStore) -> None:
    write(store, (H, 1000, histogram(1)), (OTHER, 1000, histogram(2)))
    matchers = [Matcher("job", MatchOp.EQUAL, "shop")]
    assert store.delete_series(matchers, 0, 10**12) == 1
    assert rows(select(store)) == {OTHER: [(1000, histogram(2))]}
    write(store, (H, 1000, histogram(3)))
    assert rows(select(store))[H] == [(1000, histogram(3))]


def test_retention_takes_old_histograms_and_leaves_new_ones(store: DuckDBStore) -> None:
    now_ms = 1000 * HOUR_MS
    write(store, (H, now_ms - 5 * HOUR_MS, histogram(1)), (H, now_ms - 1000, histogram(2)))
    done = store.retain(now_ms, HOUR_MS)
    assert done.rows["histograms"] == 1
    assert rows(select(store)) == {H: [(now_ms - 1000, histogram(2))]}


def test_a_long_query_finds_histograms_although_they_have_no_roll_ups(store: DuckDBStore) -> None:
    now_ms = 1000 * HOUR_MS
    for step in range(0, 48, 2):
        at = now_ms - 12 * HOUR_MS + step * HOUR_MS // 4
        write(store, (H, at, histogram(step)), (F, at, float(step)))
    store.retain(now_ms, 100 * HOUR_MS, rollup_ms=1000 * HOUR_MS)
    engine = Engine(store)
    for name, wanted in (("h", 23.0), ("f", 23.0)):
        found = engine.range(f"count_over_time({name}[12h])", now_ms, now_ms, 300_000)
        assert found.values.tolist() == [[wanted]]
    increase = engine.instant("histogram_count(increase(h[12h]))", now_ms)
    assert increase.values[0] > 40


def test_the_bits_of_a_mark_sent_as_a_float_store_nothing(store: DuckDBStore) -> None:
    write(store, (H, 1000, histogram(1)), (H, 2000, MARK), (OTHER, 3000, MARK))
    assert rows(select(store))[H] == [(1000, histogram(1))]


def test_a_histogram_of_no_series_is_refused(store: DuckDBStore) -> None:
    bad = batch((F, 1000, 1.0))
    wrong = (HistogramSample(1, 1000, histogram(1)),)
    with pytest.raises(BadInput, match="points to a series"):
        store.append(
            SampleBatch(bad.series, bad.series_index, bad.ts_ms, bad.values, histograms=wrong)
        ).result(timeout=60)


def test_a_query_holds_so_many_histograms_and_no_more(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.backends.duckdb.histograms.MAX_HISTOGRAMS", 2)
    write(store, *((H, 1000 * at, histogram(at)) for at in range(1, 4)))
    with pytest.raises(QueryError, match="too many samples") as refused:
        select(store)
    assert "native histograms" in refused.value.hint


value = st.one_of(st.integers(0, 99).map(float), st.integers(0, 99).map(histogram))


@settings(max_examples=12)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([H, OTHER]), st.integers(1, 20), value), max_size=8),
        max_size=5,
    )
)
def test_whatever_is_written_last_is_what_is_read(
    rounds: list[list[tuple[Labels, int, float | NativeHistogram]]],
) -> None:
    wanted: dict[Labels, dict[int, float | NativeHistogram]] = {}
    with DuckDBStore.open(None) as store:
        for samples in rounds:
            distinct = {(labels, at): value for labels, at, value in samples}
            write(store, *((labels, at, value) for (labels, at), value in distinct.items()))
            for (labels, at), value in distinct.items():
                wanted.setdefault(labels, {})[at] = value
        found = {labels: dict(points) for labels, points in rows(select(store)).items()}
    assert found == wanted
