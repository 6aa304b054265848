"""Queries over native histograms: ranges, raw samples, subqueries, and any mix with floats."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.histograms import Buckets, NativeHistogram, ResetHint
from store.model import InstantVector, Labels
from store.promql.engine import Engine, RawSeries
from store.promql.testing import MemoryReader
from tests.store.promql.script import STALE, close, histogram_of, same

STEP_MS = 30_000
EXPRESSIONS = [
    "m_total",
    "-m_total",
    "rate(m_total[2m])",
    "irate(m_total[2m])",
    "delta(m_total[2m])",
    "increase(m_total[1m] anchored)",
    "increase(m_total[1m] smoothed)",
    "m_total smoothed",
    "resets(m_total[2m]) + changes(m_total[2m])",
    "sum by (a) (m_total)",
    "avg(m_total)",
    "count(m_total)",
    "max(m_total)",
    "topk(1, m_total)",
    "limitk(1, m_total)",
    "count_values('v', m_total)",
    "avg_over_time(m_total[2m])",
    "last_over_time(m_total[2m])",
    "max_over_time(m_total[2m])",
    "sum_over_time(m_total[2m:20s])",
    "histogram_quantile(0.3, m_total)",
    "histogram_quantiles(m_total, 'q', 0.1, 0.9)",
    "histogram_fraction(0, 2, m_total)",
    "histogram_count(increase(m_total[2m]))",
    "histogram_stddev(m_total)",
    "m_total * 2 or m_total",
    "m_total + on (b) group_left () m_total{a='x'}",
    "m_total == m_total",
    "m_total </ 1.5",
    "label_replace(m_total, 'c', '$1', 'a', '(.*)')",
    "absent(m_total{a='x', b='1'})",
    "scalar(m_total{a='x'}) + timestamp(m_total)",
    "m_total @ 120 / 2",
]
small = st.integers(0, 9).map(float)


@st.composite
def samples(draw: st.DrawFn) -> object:
    counts = draw(st.lists(small, max_size=3))
    offset, custom = draw(st.integers(-1, 1)), draw(st.booleans())
    side = Buckets(tuple(range(offset, offset + len(counts))), tuple(counts))
    if custom:
        bounds = draw(st.sampled_from([(1.0, 2.0), (2.0,), ()]))
        inside = Buckets(tuple(range(len(bounds) + 1)), (1.0,) * (len(bounds) + 1))
        return NativeHistogram(-53, count=len(bounds) + 1, positive=inside, custom_values=bounds)
    gauge = draw(st.sampled_from([ResetHint.UNKNOWN, ResetHint.UNKNOWN, ResetHint.GAUGE]))
    schema = draw(st.integers(0, 1))
    return NativeHistogram(
        schema, count=sum(counts), sum=draw(small), positive=side, reset_hint=gauge
    )


columns = st.lists(
    st.one_of(samples(), samples(), small, st.none(), st.just(STALE)), min_size=1, max_size=14
)


def reader_of(data: dict[tuple[str, str], list[object]]) -> MemoryReader:
    reader = MemoryReader()
    for place, ((a, b), values) in enumerate(data.items()):
        labels = Labels.of(__name__="m_total", a=a, b=b)
        found = [(i * 17_000 + place * 999, value) for i, value in enumerate(values)]
        floats = [(at, value) for at, value in found if isinstance(value, float)]
        reader.put(labels, [at for at, _ in floats], [value for _, value in floats])
        reader.put_histograms(
            labels, [(at, value) for at, value in found if isinstance(value, NativeHistogram)]
        )
    return reader


def answers(vector: InstantVector) -> dict[Labels, object]:
    cells = [None] * len(vector) if vector.histograms is None else vector.histograms.tolist()
    return {
        labels: value if histogram is None else histogram
        for (labels, value), histogram in zip(vector.items(), cells, strict=True)
    }


def alike(one: object, other: object) -> bool:
    if isinstance(one, NativeHistogram) and isinstance(other, NativeHistogram):
        return same(one, other) and one.reset_hint is other.reset_hint
    return isinstance(one, float) and isinstance(other, float) and close(one, other)


@settings(max_examples=50)
@given(
    data=st.dictionaries(
        st.tuples(st.sampled_from("xy"), st.sampled_from("12")), columns, min_size=1
    ),
    expr=st.sampled_from(EXPRESSIONS),
)
def test_a_range_query_is_its_instant_queries(
    data: dict[tuple[str, str], list[object]], expr: str
) -> None:
    engine = Engine(reader_of(data))
    matrix = engine.range(expr, 0, 10 * STEP_MS, STEP_MS)
    for step, ts_ms in enumerate(matrix.steps_ms.tolist()):
        wanted: dict[Labels, object] = {}
        for row, labels in enumerate(matrix.series):
            if matrix.present[row, step]:
                cell = None if matrix.histograms is None else matrix.histograms[row, step]
                wanted[labels] = float(matrix.values[row, step]) if cell is None else cell
        got = answers(engine.instant(expr, ts_ms))
        assert got.keys() == wanted.keys()
        assert all(alike(got[labels], wanted[labels]) for labels in got), (got, wanted)


def test_a_range_selector_answers_histograms_as_they_are_stored() -> None:
    reader = MemoryReader()
    labels = Labels.of(__name__="m", a="x")
    histogram = histogram_of("{{count:3 sum:4 buckets:[1 2]}}")
    reader.put(labels, [1000], [7.0])
    reader.put_histograms(labels, [(2000, histogram), (3000, histogram)])
    raw = Engine(reader).query("m[10s]", 5000).result
    assert isinstance(raw, RawSeries)
    assert raw.ts_ms.tolist() == [1000, 2000, 3000]
    assert raw.histograms is not None
    assert raw.histograms.tolist() == [None, histogram, histogram]
    assert raw.histograms[2].reset_hint is ResetHint.NOT_RESET


def test_values_are_not_a_number_where_a_histogram_stands() -> None:
    reader = MemoryReader()
    reader.put(Labels.of(__name__="m", a="x"), [1000], [7.0])
    reader.put_histograms(Labels.of(__name__="m", a="y"), [(1000, NativeHistogram())])
    engine = Engine(reader)
    values = dict(engine.instant("m", 1000).items())
    assert [math.isnan(value) for value in values.values()] == [False, True]
    matrix = engine.range("m", 1000, 2000, 1000)
    assert np.isnan(matrix.values).any(axis=1).tolist() == [False, True]


def test_answers_without_histograms_have_no_column_for_them() -> None:
    reader = MemoryReader()
    reader.put(Labels.of(__name__="m"), [1000], [7.0])
    reader.put_histograms(Labels.of(__name__="h"), [(1000, NativeHistogram(count=2))])
    engine = Engine(reader)
    for expr in ("m", "histogram_count(h)", "count(h)", "{__name__=~'m|h'} > 1"):
        assert engine.instant(expr, 1000).histograms is None
        assert engine.range(expr, 1000, 2000, 500).histograms is None


@pytest.mark.parametrize("expr", ["histogram_count(sum(h))", "histogram_avg(h) + 0 * sum(h)"])
def test_only_counts_of_a_histogram_tell_resets_that_nobody_stated(expr: str) -> None:
    reader = MemoryReader()
    for name, counts in (("a", (5, 2, 3)), ("b", (1, 2, 3))):
        histograms = [
            (at * 1000, NativeHistogram(count=count, positive=Buckets((0,), (float(count),))))
            for at, count in enumerate(counts)
        ]
        reader.put_histograms(Labels.of(__name__="h", a=name), histograms)
    found = Engine(reader).query(expr, 1000)
    conflict = "PromQL warning: conflicting counter resets during histogram aggregation"
    assert any(note.startswith(conflict) for note in found.warnings) == ("count" in expr)
