"""Laws that hold for every query, whatever the data."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import QueryError
from store.model import Labels
from store.promql.engine import Engine
from store.promql.parse import parse
from store.promql.printer import format_expr, to_text, tree
from store.promql.testing import MemoryReader
from store.promql.warm import warm
from tests.store.promql.script import STALE, close
from tests.store.promql.test_cases import CASES

STEP_MS = 30_000
EXPRESSIONS = [
    "m_total",
    "m_total offset 1m",
    "-m_total @ 120",
    "rate(m_total[2m])",
    "sum by (a) (increase(m_total[90s]))",
    "max_over_time(m_total[1m])",
    "avg_over_time(m_total[2m:20s])",
    "quantile_over_time(0.7, m_total[3m])",
    "deriv(m_total[2m])",
    "predict_linear(m_total[2m], 60)",
    "stddev(m_total)",
    "quantile(0.3, m_total)",
    "topk(2, m_total)",
    "bottomk by (a) (1, m_total)",
    "count_values('v', m_total)",
    "m_total / on (b) group_left sum by (b) (m_total)",
    "m_total{a='x'} or m_total{b='1'}",
    "m_total and on (a) m_total > 5",
    "m_total unless m_total{b='2'}",
    "m_total{a='x'} + on (b) fill (0) m_total{a='y'}",
    "histogram_quantile(0.5, label_replace(m_total, 'le', '$1', 'b', '(.*)'))",
    "absent(m_total{a='x',b='1'})",
    "absent_over_time(m_total{a='y'}[1m])",
    "timestamp(m_total) - time()",
    "increase(m_total[1m] anchored)",
    "rate(m_total[1m] smoothed)",
    "m_total smoothed",
    "last_over_time(m_total[1m]) * 2 ^ scalar(sum(m_total))",
    "changes(m_total[2m]) + ignoring (zzz) resets(m_total[2m])",
]
value = st.one_of(
    st.integers(0, 20).map(float), st.just(None), st.just(STALE), st.just(float("nan"))
)
columns = st.lists(value, min_size=1, max_size=20)


def reader_of(data: dict[tuple[str, str], list[float | None]]) -> MemoryReader:
    reader = MemoryReader()
    for place, ((a, b), values) in enumerate(data.items()):
        kept = [(i * 17_000 + place * 999, v) for i, v in enumerate(values) if v is not None]
        labels = Labels.of(__name__="m_total", a=a, b=b)
        reader.put(labels, [ts for ts, _ in kept], [v for _, v in kept])
    return reader


@settings(max_examples=60)
@given(
    data=st.dictionaries(
        st.tuples(st.sampled_from("xy"), st.sampled_from("12")), columns, min_size=1
    ),
    expr=st.sampled_from(EXPRESSIONS),
)
def test_a_range_query_is_its_instant_queries(
    data: dict[tuple[str, str], list[float | None]], expr: str
) -> None:
    engine = Engine(reader_of(data))
    matrix = engine.range(expr, 0, 10 * STEP_MS, STEP_MS)
    for step, ts_ms in enumerate(matrix.steps_ms.tolist()):
        wanted = {
            labels: matrix.values[row, step]
            for row, labels in enumerate(matrix.series)
            if matrix.present[row, step]
        }
        got = dict(engine.instant(expr, ts_ms).items())
        assert got.keys() == wanted.keys()
        assert all(close(got[labels], wanted[labels]) for labels in got)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(
    ["sum", "by", "(", ")", "m", "{", "}", "a", "=~", '"x"', "[", "]", "5m", ":", "offset", "@",
     "-", "+", "1", "and", "on", ",", "rate", "0x", "\\", "'", "bool", "start()", "e", "é", "\n"]
), max_size=14))  # fmt: skip
def test_any_text_parses_or_is_refused_with_a_place(words: list[str]) -> None:
    text = " ".join(words)
    fault = ""
    try:
        assert tree(parse(text))["type"]
    except QueryError as error:
        fault = f"{error.kind} {error.message}"
    assert not fault or re.match(r"bad_data \d+:\d+: parse error: .", fault)


def test_printing_a_query_keeps_its_meaning() -> None:
    parsed = 0
    for case in CASES:
        try:
            first = parse(case.expr)
        except QueryError:
            continue
        parsed += 1
        for text in (to_text(first), format_expr(first)):
            assert tree(parse(text)) == tree(first), text
    assert parsed > 100


def test_warming_up_compiles_kernels_for_read_only_columns_too() -> None:
    seen: list[tuple[int, int]] = []
    warm(lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(seen)


def test_infinities_and_huge_sums_do_not_lose_the_mean() -> None:
    reader = MemoryReader()
    for host in ("a", "b"):
        labels = Labels.of(__name__="big", host=host)
        reader.put(labels, [0, 1000], np.array([1.7e308, 1.7e308]))
    engine = Engine(reader)
    assert engine.instant("avg(big)", 1000).values[0] == 1.7e308
    assert engine.instant("avg_over_time(big{host='a'}[1m])", 1000).values[0] == 1.7e308
    assert engine.instant("sum(big)", 1000).values[0] == float("inf")


def test_a_long_query_is_split_over_lines_as_prometheus_splits_it() -> None:
    long = "a_metric_with_a_name_that_is_long" * 2
    text = (
        f"-sum by (x) (rate({long}[5m])) / on (x) group_left () "
        f"(quantile(0.9, max_over_time(({long} + {long} > 1)[5m:1m])))"
    )
    lines = format_expr(parse(text)).splitlines()
    assert lines[1] == "/ on (x) group_left ()"
    assert lines[2] == "  ("
    assert lines[3] == "    quantile("
    assert tree(parse("\n".join(lines))) == tree(parse(text))


def test_a_query_may_be_longer_than_what_is_remembered() -> None:
    assert parse("m" * 20_000) == parse("m" * 20_000)
