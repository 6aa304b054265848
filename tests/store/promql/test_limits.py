import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from store.errors import QueryError
from store.model import Labels, Matcher, SeriesSet
from store.promql.engine import Engine, EngineOptions, RawSeries, StringResult
from store.promql.parse import parse, parse_matchers
from store.promql.testing import MemoryReader


@pytest.fixture
def reader() -> MemoryReader:
    memory = MemoryReader()
    for place in range(10):
        labels = Labels.of(__name__="m", i=str(place))
        memory.put(labels, np.arange(100) * 1000, np.arange(100.0))
    return memory


def test_a_query_may_not_hold_more_samples_than_its_limit(reader: MemoryReader) -> None:
    engine = Engine(reader, EngineOptions(max_samples=100))
    with pytest.raises(QueryError, match="too many samples") as failure:
        engine.instant("m", 99_000)
    assert failure.value.kind == "execution"


def test_a_subquery_with_a_tiny_step_is_refused_before_it_runs(reader: MemoryReader) -> None:
    with pytest.raises(QueryError, match="too many samples"):
        Engine(reader).instant("max_over_time(vector(1)[10y:1ms])", 0)


def test_counting_values_that_are_all_different_cannot_fill_the_memory() -> None:
    memory = MemoryReader()
    for place in range(20):
        values = (np.arange(100) * 100 + place).astype(np.float64)
        memory.put(Labels.of(__name__="m", i=str(place)), np.arange(100) * 1000, values)
    engine = Engine(memory, EngineOptions(max_samples=10_000))
    assert len(engine.range("m", 0, 99_000, 1000).series) == 20
    with pytest.raises(QueryError, match="too many samples"):
        engine.range('count_values("v", m)', 0, 99_000, 1000)


def test_a_query_that_runs_too_long_times_out(reader: MemoryReader) -> None:
    with pytest.raises(QueryError, match="timed out") as failure:
        Engine(reader).query("sum(m) + sum(m)", 0, timeout_s=1e-9)
    assert failure.value.kind == "timeout"


def test_exactly_eleven_thousand_points_are_allowed(reader: MemoryReader) -> None:
    engine = Engine(reader)
    assert len(engine.range("vector(1)", 0, 11_000_000, 1000).steps_ms) == 11_001
    with pytest.raises(QueryError, match="exceeded maximum resolution of 11,000 points"):
        engine.range("vector(1)", 0, 11_001_000, 1000)


@pytest.mark.parametrize(
    "text", ["(" * 5000, "-" * 5000 + "1", "+".join(["m"] * 5000), "m[" + "(" * 5000, "{" * 9,
             "m[1m] offset " + "-" * 5000 + "1m", "sum(" * 5000 + "m" + ")" * 5000]
)  # fmt: skip
def test_deep_nesting_is_refused_not_a_crash(text: str) -> None:
    with pytest.raises(QueryError) as failure:
        parse(text)
    assert failure.value.kind == "bad_data"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: parse error: no expression found in input"),
        ("m +", "1:4: parse error: unexpected end of input"),
        ("m\n  offset", "2:9: parse error: unexpected end of input"),
        ("m[5m", "1:5: parse error: unexpected end of input"),
        ("m[0x]", "1:3: parse error: bad number"),
        ("'abc", "1:1: parse error: unterminated quoted string"),
        ("m{a='1'", "1:8: parse error: unexpected end of input"),
        ("sum(m) offset 5m", "1:8: parse error: offset modifier must be preceded by"),
        ("m offset 5m offset 5m", "1:13: parse error: offset may not be set multiple times"),
        ("m @ Inf", "1:5: parse error: timestamp out of bounds"),
        ("a + on(b) group_left(b) c", "must not occur in ON and GROUP clause at once"),
        ("a and on(b) group_left c", 'no grouping allowed for "and" operation'),
        ("topk(m)", "wrong number of arguments for aggregate expression"),
        ("rate(m[5m],)", "trailing commas not allowed"),
        ("1 and m", 'set operator "and" not allowed in binary scalar expression'),
        ("sum('a')", "expected type instant vector in aggregation expression, got string"),
        ("m[5m:1m][5m:1m]", "subquery is only allowed on instant vector"),
        ("1e999", "out of range"),
        ("m[99999999y]", "duration out of range"),
    ],
)
def test_a_mistake_names_its_line_and_column(text: str, message: str) -> None:
    with pytest.raises(QueryError) as failure:
        parse(text)
    assert message in failure.value.message


def test_a_zero_range_is_refused(reader: MemoryReader) -> None:
    with pytest.raises(QueryError, match="duration must be greater than 0"):
        Engine(reader).instant("rate(m[5m - 300s])", 0)


def test_a_selector_for_series_needs_a_matcher_that_rejects_the_empty_string() -> None:
    assert len(parse_matchers("m{a!='b'}")) == 2
    with pytest.raises(QueryError, match="at least one non-empty matcher"):
        parse_matchers("{a=~'.*'}")
    with pytest.raises(QueryError, match="parse error"):
        parse_matchers("rate(m[5m])")


def test_a_range_selector_answers_raw_samples_without_stale_ones(reader: MemoryReader) -> None:
    result = Engine(reader).query("m{i='3'}[3s]", 50_000).result
    assert isinstance(result, RawSeries)
    assert result.ts_ms.tolist() == [48_000, 49_000, 50_000]
    assert result.values.tolist() == [48.0, 49.0, 50.0]


def test_the_port_answers_vectors_only(reader: MemoryReader) -> None:
    engine = Engine(reader)
    assert isinstance(engine.query("'text'", 0).result, StringResult)
    for expr in ("'text'", "m[5m]"):
        with pytest.raises(QueryError, match="neither an instant vector nor a scalar"):
            engine.instant(expr, 0)
    with pytest.raises(QueryError, match='invalid expression type "range vector"'):
        engine.range("m[5m]", 0, 1000, 1000)
    assert engine.instant("1 + 1", 0).values.tolist() == [2.0]


def test_one_selector_is_read_once_a_query(reader: MemoryReader) -> None:
    assert Engine(reader).query("m / (m + m)", 50_000).stats.selects == 1


def test_more_than_ten_annotations_are_counted_not_listed() -> None:
    memory = MemoryReader()
    for place in range(15):
        memory.put(Labels.of(__name__=f"gauge{place}"), [0, 1000, 2000], [1.0, 2.0, 3.0])
    answer = Engine(memory).query('sum(rate({__name__=~"gauge.+"}[1m]))', 2000)
    assert len(answer.infos) == 11
    assert answer.infos[-1] == "5 more info annotations omitted"


class Endless:
    """A store of more samples than any memory holds; it says how many it was asked for."""

    def __init__(self) -> None:
        self.most = 0

    def select(
        self,
        _matchers: Sequence[Matcher],
        _start_ms: int,
        _end_ms: int,
        *,
        max_samples: int = 50_000_000,
    ) -> SeriesSet:
        self.most = max_samples
        series = tuple(Labels.of(__name__="m", i=str(place)) for place in range(10_000))
        nothing = np.zeros(1, dtype=np.int64)
        return SeriesSet(series, np.zeros(10_001, dtype=np.int64), nothing, np.zeros(1))


@pytest.mark.parametrize("query", ["m", "rate(m[5m])", "m offset 1d", "m + m", "sum(m smoothed)"])
def test_a_matrix_of_a_billion_samples_is_refused_before_memory_is_used(query: str) -> None:
    endless = Endless()
    engine = Engine(endless, EngineOptions(max_points=200_000))
    tracemalloc.start()
    try:
        with pytest.raises(QueryError, match="too many samples into memory in query execution"):
            engine.range(query, 0, 100_000_000, 1000)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert endless.most == 50_000_000


@pytest.mark.parametrize(
    "pattern",
    ["(((a{1000}){1000}){1000})", "(" * 2000, "a" * 70_000, "(?:a{0,1000}){0,1000}", "[" * 100],
)
def test_a_regular_expression_that_costs_too_much_is_refused(pattern: str) -> None:
    with pytest.raises(QueryError, match="error parsing regexp") as failure:
        parse(f'm{{a=~"{pattern}"}}')
    assert failure.value.kind == "bad_data"


def test_a_regular_expression_runs_in_linear_time(reader: MemoryReader) -> None:
    reader.put(Labels.of(__name__="long", a="a" * 4000), [0], [1.0])
    query = 'long{a=~"(a+)+b|(a|a)*b|(.*)(.*)(.*)(.*)b"}'
    assert len(Engine(reader).instant(query, 0)) == 0
