"""What every store backend must do, said against the ports alone."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.backends.duckdb import spans as duckdb_spans
from store.errors import BadInput, LimitExceeded, QueryError
from store.model import (
    EVENT_READ_SCHEMA,
    EVENT_SCHEMA,
    SPAN_CODED_READ_SCHEMA,
    SPAN_CODED_SCHEMA,
    SPAN_READ_SCHEMA,
    SPAN_SCHEMA,
    STALE_NAN_BITS,
    EventBatch,
    Exemplar,
    Labels,
    Matcher,
    MatchOp,
    MetricMetadata,
    MetricType,
    SampleBatch,
    SeriesSet,
    SpanBatch,
)
from store.ports import TraceQuery

LIMITS = StoreLimits(max_series=5_000, max_labels_per_series=10, max_label_value_bytes=100)
RUNS = itertools.count()
UP = Labels.of(__name__="up", job="shop")


def duckdb_store(kind: str, directory: Path) -> DuckDBStore:
    limits = LIMITS if "head" in kind else replace(LIMITS, head_window_ms=0)
    return DuckDBStore.open(directory if "disk" in kind else None, limits=limits)


@pytest.fixture(params=["memory with head", "memory", "disk with head", "disk"], scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[DuckDBStore]:
    """One store for many examples; each uses labels of its own."""
    with duckdb_store(request.param, tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture(params=["memory with head", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DuckDBStore]:
    with duckdb_store(request.param, tmp_path) as opened:
        yield opened


def put(store: DuckDBStore, *rows: tuple[Labels, int, float]) -> None:
    store.append(SampleBatch.of_rows(rows)).result(timeout=60)


def equal(name: str, value: str) -> Matcher:
    return Matcher(name, MatchOp.EQUAL, value)


def as_dict(found: SeriesSet) -> dict[Labels, list[tuple[int, float]]]:
    bounds = found.offsets.tolist()
    return {
        labels: list(
            zip(
                found.ts_ms[bounds[i] : bounds[i + 1]].tolist(),
                found.values[bounds[i] : bounds[i + 1]].tolist(),
                strict=True,
            )
        )
        for i, labels in enumerate(found.series)
    }


def spans(*rows: dict[str, Any]) -> SpanBatch:
    base = {
        "trace_id": b"t" * 16,
        "span_id": b"s" * 8,
        "start_ns": 1_000,
        "end_ns": 2_000,
        "service": "shop",
        "name": "GET /",
        "kind": 2,
        "status": 0,
        "received_ms": 1,
    }
    return SpanBatch(pa.Table.from_pylist([base | row for row in rows], schema=SPAN_SCHEMA))


def events(*rows: dict[str, Any]) -> EventBatch:
    base = {
        "event_id": "e",
        "source": "web",
        "type": "purchase",
        "ts_ms": 1_000,
        "bot": False,
        "test": False,
        "received_ms": 1,
    }
    return EventBatch(pa.Table.from_pylist([base | row for row in rows], schema=EVENT_SCHEMA))


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_what_was_acknowledged_is_visible_at_once(store: DuckDBStore) -> None:
    put(store, (UP, 2_000, 2.0), (UP, 1_000, 1.0))
    assert as_dict(store.select([equal("job", "shop")], 0, 9_000)) == {
        UP: [(1_000, 1.0), (2_000, 2.0)]
    }


def test_both_ends_of_the_range_belong_to_it(store: DuckDBStore) -> None:
    put(store, *((UP, ts, float(ts)) for ts in (999, 1_000, 2_000, 2_001)))
    assert as_dict(store.select([], 1_000, 2_000)) == {UP: [(1_000, 1_000.0), (2_000, 2_000.0)]}


def test_an_empty_store_and_an_empty_range_have_no_series(store: DuckDBStore) -> None:
    assert store.select([], 0, 10).series == ()
    put(store, (UP, 1_000, 1.0))
    nothing = store.select([], 2_000, 3_000)
    assert (nothing.series, nothing.offsets.tolist(), len(nothing.ts_ms)) == ((), [0], 0)
    assert store.select([], 3_000, 2_000).series == ()


def test_payload_bits_of_nan_survive(store: DuckDBStore) -> None:
    patterns = [STALE_NAN_BITS, 0x7FF8000000000001, 0xFFF8000000000000, 0x7FF8DEADBEEF0001]
    values = np.array(patterns, dtype=np.uint64).view(np.float64)
    batch = SampleBatch((UP,), np.zeros(4, dtype=np.int32), np.arange(4, dtype=np.int64), values)
    store.append(batch).result(timeout=60)
    assert store.select([], 0, 9).values.view(np.uint64).tolist() == patterns


def test_too_many_samples_is_prometheus_own_error(store: DuckDBStore) -> None:
    put(store, *((UP, ts, 0.0) for ts in range(11)))
    with pytest.raises(QueryError, match="too many samples into memory") as raised:
        store.select([], 0, 100, max_samples=10)
    assert raised.value.kind == "execution"
    assert len(store.select([], 0, 9, max_samples=10).ts_ms) == 10


def test_a_bad_regular_expression_is_bad_data(store: DuckDBStore) -> None:
    with pytest.raises(QueryError, match="regular expression") as raised:
        store.select([Matcher("job", MatchOp.REGEX, "a)(b")], 0, 1)
    assert raised.value.kind == "bad_data"


writes = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 12),
            st.floats(allow_nan=False, width=32),
        ),
        min_size=1,
        max_size=12,
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=writes, start=st.integers(0, 12), length=st.integers(0, 12))
def test_the_last_write_of_a_time_wins(
    shared: DuckDBStore, batches: Any, start: int, length: int
) -> None:
    token = next(RUNS)
    expected: dict[Labels, dict[int, float]] = {}
    waiting = []
    for batch in batches:
        rows = [
            (Labels.of(__name__="m", run=str(token), n=str(n)), minute * 60_000, value)
            for n, minute, value in batch
        ]
        for labels, ts_ms, value in rows:
            expected.setdefault(labels, {})[ts_ms] = value
        waiting.append(shared.append(SampleBatch.of_rows(rows)))
    for done in waiting:
        done.result(timeout=60)
    start_ms, end_ms = start * 60_000, (start + length) * 60_000
    inside = {
        labels: sorted((ts, v) for ts, v in rows.items() if start_ms <= ts <= end_ms)
        for labels, rows in expected.items()
    }
    found = as_dict(shared.select([equal("run", str(token))], start_ms, end_ms))
    assert found == {labels: rows for labels, rows in inside.items() if rows}


label_value = st.sampled_from(["", "a", "b", "ab", "a\nb", "ä"])
pattern = st.sampled_from(["", "a", "a|b", ".*", ".+", "a?", "a.*", "[^a]", "(?i)A", "ä|b"])
matcher = st.one_of(
    st.builds(
        Matcher,
        st.sampled_from(["x", "y", "zz"]),
        st.sampled_from([MatchOp.EQUAL, MatchOp.NOT_EQUAL]),
        label_value,
    ),
    st.builds(
        Matcher,
        st.sampled_from(["x", "y", "zz"]),
        st.sampled_from([MatchOp.REGEX, MatchOp.NOT_REGEX]),
        pattern,
    ),
)


def passes(labels: Labels, condition: Matcher) -> bool:
    import re

    value = labels.get(condition.name)
    match condition.op:
        case MatchOp.EQUAL:
            return value == condition.value
        case MatchOp.NOT_EQUAL:
            return value != condition.value
        case MatchOp.REGEX:
            return re.fullmatch(condition.value, value, re.DOTALL) is not None
        case MatchOp.NOT_REGEX:
            return re.fullmatch(condition.value, value, re.DOTALL) is None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(label_value, label_value), max_size=6),
    later=st.lists(st.tuples(label_value, label_value), max_size=3),
    matchers=st.lists(matcher, max_size=4),
)
def test_matchers_mean_what_prometheus_means(
    shared: DuckDBStore, pairs: Any, later: Any, matchers: Sequence[Matcher]
) -> None:
    token = next(RUNS)
    scope = equal("run", str(token))
    seen: set[Labels] = set()
    for group in (pairs, later):
        labels = {Labels.of(__name__="m", run=str(token), x=x, y=y) for x, y in group}
        seen |= labels
        put(shared, *((one, 1_000, 1.0) for one in labels))
        found = shared.select([scope, *matchers], 0, 2_000)
        assert set(found.series) == {
            one for one in seen if all(passes(one, condition) for condition in matchers)
        }


def test_series_and_labels_are_those_of_the_range(store: DuckDBStore) -> None:
    early = Labels.of(__name__="up", job="a", zone="eu")
    late = Labels.of(__name__="up", job="b")
    put(store, (early, 1_000, 1.0), (late, 5_000, 1.0))
    assert store.series([], 0, 9_000) == [early, late]
    assert store.series([equal("__name__", "up")], 2_000, 9_000) == [late]
    assert store.series([], 0, 9_000, limit=1) == [early]
    assert store.label_names([], 0, 9_000) == ["__name__", "job", "zone"]
    assert store.label_names([], 2_000, 9_000) == ["__name__", "job"]
    assert store.label_values("job", [], 0, 9_000) == ["a", "b"]
    assert store.label_values("job", [equal("zone", "eu")], 0, 9_000) == ["a"]
    assert store.label_values("job", [], 0, 9_000, limit=1) == ["a"]


def test_metadata_is_the_latest_of_each_family(store: DuckDBStore) -> None:
    old = MetricMetadata("up", MetricType.GAUGE, "Old.", "")
    new = MetricMetadata("up", MetricType.GAUGE, "New.", "seconds")
    other = MetricMetadata("hits", MetricType.COUNTER, "Hits.")
    for found in ((old, other), (new,)):
        store.append(SampleBatch.of_rows([], metadata=found)).result(timeout=60)
    assert store.metadata() == [other, new]
    assert store.metadata("up") == [new]
    assert store.metadata("absent") == []


def test_exemplars_come_back_by_series_and_time(store: DuckDBStore) -> None:
    example = Exemplar(UP, Labels.of(trace_id="abc"), 1_000, 0.5)
    store.append(SampleBatch.of_rows([(UP, 1_000, 1.0)], exemplars=(example,))).result(60)
    assert store.exemplars([equal("job", "shop")], 0, 2_000) == [example]
    assert store.exemplars([equal("job", "shop")], 1_001, 2_000) == []
    assert store.exemplars([equal("job", "other")], 0, 2_000) == []


def test_deleted_samples_are_gone_and_the_rest_stays(store: DuckDBStore) -> None:
    other = Labels.of(__name__="up", job="other")
    put(store, *((one, ts, 1.0) for one in (UP, other) for ts in (1_000, 2_000, 3_000)))
    assert store.delete_series([equal("job", "shop")], 1_500, 2_500) == 1
    assert as_dict(store.select([equal("job", "shop")], 0, 9_000)) == {
        UP: [(1_000, 1.0), (3_000, 1.0)]
    }
    assert len(store.select([equal("job", "other")], 0, 9_000).ts_ms) == 3
    put(store, (UP, 2_000, 7.0))
    assert (2_000, 7.0) in as_dict(store.select([], 0, 9_000))[UP]


def test_new_series_beyond_the_limit_are_refused_and_known_ones_go_on(store: DuckDBStore) -> None:
    put(store, (UP, 1_000, 1.0))
    flood = [(Labels.of(__name__="flood", n=str(n)), 2_000, 0.0) for n in range(5_000)]
    with pytest.raises(LimitExceeded) as raised:
        store.append(SampleBatch.of_rows([*flood, (UP, 2_000, 2.0)]))
    assert raised.value.reason == "max_series"
    put(store, (UP, 3_000, 3.0))
    assert as_dict(store.select([], 0, 9_000)) == {UP: [(1_000, 1.0), (2_000, 2.0), (3_000, 3.0)]}


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (Labels.of({f"l{n}": "x" for n in range(11)}), "max_labels_per_series"),
        (Labels.of({"l": "x" * 101}), "label_too_long"),
        (Labels.of({"l": "€" * 34}), "label_too_long"),
        (Labels.of({"n" * 1_025: "x"}), "label_too_long"),
    ],
)
def test_labels_beyond_their_bounds_are_refused(
    store: DuckDBStore, labels: Labels, reason: str
) -> None:
    with pytest.raises(LimitExceeded) as raised:
        store.append(SampleBatch.of_rows([(labels, 1, 1.0)]))
    assert raised.value.reason == reason


def test_columns_that_do_not_fit_together_are_refused(store: DuckDBStore) -> None:
    good = SampleBatch.of_rows([(UP, 1, 1.0)])
    with pytest.raises(BadInput, match="length"):
        store.append(replace(good, values=np.zeros(2)))
    for place in (-1, 1):
        with pytest.raises(BadInput, match="points to a series"):
            store.append(replace(good, series_index=np.array([place], dtype=np.int32)))
    with pytest.raises(BadInput, match="Unicode"):
        store.append(SampleBatch.of_rows([(Labels.of(x="\ud800"), 1, 1.0)]))
    with pytest.raises(BadInput, match="lacks the columns"):
        store.append(SpanBatch(pa.table({"trace_id": [b"x"]})))
    with pytest.raises(BadInput, match="nulls"):
        store.append(events({"event_id": "a", "source": None}))
    assert store.select([], 0, 9).series == ()


@pytest.mark.parametrize(
    ("texts", "reason"), [(["shop", "shop"], "a text twice"), (["shop", None], "nulls")]
)
def test_a_dictionary_of_spans_with_a_null_or_a_text_twice_is_refused(
    store: DuckDBStore, texts: list[str | None], reason: str
) -> None:
    table = spans({"span_id": span_id(1)}, {"span_id": span_id(2)}).table
    columns: list[Any] = [
        column.dictionary_encode() if pa.types.is_string(column.type) else column
        for column in table.columns
    ]
    good = pa.table(columns, schema=SPAN_CODED_SCHEMA)
    place = good.schema.get_field_index("service")
    service = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(texts))
    with pytest.raises(BadInput, match=reason):
        store.append(SpanBatch(good.set_column(place, good.schema.field(place), service)))
    store.append(SpanBatch(good)).result(timeout=60)
    assert len(store.spans_after(0)) == 2


def test_spans_arrive_in_commit_order_once_each(store: DuckDBStore) -> None:
    for number in range(5):
        store.append(spans({"span_id": span_id(number)})).result(timeout=60)
    first = store.spans_after(0, limit=3)
    rest = store.spans_after(first.column("seq")[-1].as_py())
    for table in (first, rest):
        assert table.schema in (SPAN_READ_SCHEMA, SPAN_CODED_READ_SCHEMA)
    arrived = first.column("span_id").to_pylist() + rest.column("span_id").to_pylist()
    assert arrived == [span_id(number) for number in range(5)]
    assert store.spans_after(rest.column("seq")[-1].as_py()).num_rows == 0


def test_a_trace_has_each_span_once_by_start(store: DuckDBStore) -> None:
    rows = [
        {"trace_id": trace_id(1), "span_id": span_id(2), "start_ns": 20},
        {"trace_id": trace_id(1), "span_id": span_id(1), "start_ns": 10},
        {"trace_id": trace_id(2), "span_id": span_id(1), "start_ns": 5},
    ]
    store.append(spans(*rows)).result(timeout=60)
    store.append(spans(rows[0], {"trace_id": trace_id(3)})).result(timeout=60)
    found = store.traces([trace_id(1), trace_id(2)])
    assert found.schema == SPAN_READ_SCHEMA
    assert list(
        zip(*(found.column(c).to_pylist() for c in ("trace_id", "span_id")), strict=True)
    ) == [
        (trace_id(1), span_id(1)),
        (trace_id(1), span_id(2)),
        (trace_id(2), span_id(1)),
    ]
    assert store.traces([]).num_rows == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [3, 2, 1]),
        ({"limit": 2}, [3, 2]),
        ({"service": "shop"}, [2, 1]),
        ({"service": "shop", "operation": "GET /b"}, [2]),
        ({"min_duration_ns": 100}, [3, 2]),
        ({"max_duration_ns": 100}, [2, 1]),
        ({"start_ns": 2_000, "end_ns": 2_999}, [2]),
        ({"attributes": (("cart.size", "3"),)}, [1]),
        ({"attributes": (("host.name", "web-1"),)}, [2]),
        ({"attributes": (("http.status_code", "500"),)}, [3]),
        ({"attributes": (("error", "true"),)}, [3]),
        ({"attributes": (("error", "false"), ("span.kind", "server"))}, [2, 1]),
        ({"attributes": (("a/b~c", "x"),)}, [2]),
        ({"attributes": (("cart.size", "3"), ("error", "true"))}, []),
    ],
)
def test_traces_are_found_by_what_one_of_their_spans_is(
    store: DuckDBStore, query: dict[str, Any], expected: list[int]
) -> None:
    store.append(
        spans(
            {
                "trace_id": trace_id(1),
                "start_ns": 1_000,
                "end_ns": 1_010,
                "name": "GET /a",
                "attributes": '{"cart.size": 3}',
            },
            {
                "trace_id": trace_id(2),
                "start_ns": 2_000,
                "end_ns": 2_100,
                "name": "GET /b",
                "attributes": '{"a/b~c": "x"}',
                "resource": '{"host.name": "web-1"}',
            },
            {
                "trace_id": trace_id(3),
                "start_ns": 3_000,
                "end_ns": 3_900,
                "service": "pay",
                "status": 2,
                "kind": 3,
                "http_status": 500,
            },
        )
    ).result(timeout=60)
    found = store.find_traces(TraceQuery(**({"start_ns": 0, "end_ns": 9_000} | query)))
    assert found == [trace_id(number) for number in expected]


def test_a_request_is_troubled_by_what_its_visitor_met(store: DuckDBStore) -> None:
    """The first server span counts: a failure further down may have been dealt with."""
    second = 1_000_000_000
    shown = {"kind": 2, "attributes": '{"session.id": "s1"}'}
    quick = {"start_ns": second, "end_ns": 2 * second}
    rows = [
        {"trace_id": trace_id(1), **quick, **shown, "http_status": 503},
        {"trace_id": trace_id(2), **quick, **shown, "status": 2},
        {"trace_id": trace_id(3), "start_ns": second, "end_ns": 4 * second, "kind": 2},
        {"trace_id": trace_id(4), **quick, **shown, "http_status": 404},
        {"trace_id": trace_id(5), **quick, **shown},
        {"trace_id": trace_id(5), **quick, "start_ns": second + 1, "kind": 2, "status": 2},
        {"trace_id": trace_id(6), **quick, "kind": 3, "status": 2},
        {"trace_id": trace_id(7), "start_ns": 9 * second, "end_ns": 12 * second, "kind": 2},
        {"trace_id": trace_id(8), **quick, "kind": 2, "status": 2, "attributes": '{"a":-"no"}'},
    ]
    store.append(
        spans(*({"span_id": trace_id(9)[:7] + bytes([n])} | r for n, r in enumerate(rows)))
    ).result(timeout=60)
    found = store.troubled_requests(1_000, 9_000, 3.0).to_pylist()
    assert [(r["trace_id"], r["session_id"], r["ts_ms"], r["failed"]) for r in found] == [
        (trace_id(1), "s1", 1_000, True),
        (trace_id(2), "s1", 1_000, True),
        (trace_id(3), None, 1_000, False),
        (trace_id(8), None, 1_000, True),
    ]
    # One row that is no JSON fails no search by an attribute either.
    query = TraceQuery(start_ns=0, end_ns=9 * second, attributes=(("session.id", "s1"),))
    assert set(store.find_traces(query)) == {trace_id(number) for number in (1, 2, 4, 5)}


def test_requests_are_told_all_or_not_at_all(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part would count the visitors of the rest as untroubled."""
    monkeypatch.setattr(duckdb_spans, "_MOST_TROUBLED", 3)
    failed = {"start_ns": 1_000_000_000, "end_ns": 2_000_000_000, "kind": 2, "status": 2}
    assert store.troubled_requests(1_000, 9_000, 3.0).num_rows == 0
    store.append(spans(*({"trace_id": trace_id(n), **failed} for n in range(3)))).result(timeout=60)
    assert store.troubled_requests(1_000, 9_000, 3.0).num_rows == 3
    store.append(spans({"trace_id": trace_id(3), **failed})).result(timeout=60)
    with pytest.raises(LimitExceeded, match="more than 3 requests"):
        store.troubled_requests(1_000, 9_000, 3.0)


def test_a_span_that_says_by_an_attribute_that_it_failed_is_found(store: DuckDBStore) -> None:
    told = [
        '{"error": true}',
        '{"error": "true"}',
        '{"error": false}',
        '{"deep": {"error": true}}',
        '{"error": ',
        None,
    ]
    rows = [
        {"trace_id": trace_id(number), "start_ns": 100 - number, "attributes": one}
        for number, one in enumerate(told)
    ]
    store.append(spans(*rows, {"trace_id": trace_id(9), "status": 2})).result(timeout=60)
    for stored in (False, True):
        if stored:
            store.reclaim()
        asked = [TraceQuery(0, 10**6, attributes=(("error", v),)) for v in ("true", "false")]
        failed, rest = (set(store.find_traces(one)) for one in asked)
        assert failed == {trace_id(0), trace_id(1), trace_id(9)}
        assert rest == {trace_id(number) for number in (2, 3, 4, 5)}


def test_services_list_their_operations_as_they_come(store: DuckDBStore) -> None:
    assert store.services() == {}
    store.append(spans({"name": "b"}, {"name": "a"}, {"name": "a"})).result(timeout=60)
    assert store.services() == {"shop": ["a", "b"]}
    store.append(spans({"service": "pay", "name": "c"})).result(timeout=60)
    assert store.services() == {"pay": ["c"], "shop": ["a", "b"]}
    store.append(spans({"name": "a", "kind": 3})).result(timeout=60)
    assert store.services() == {"pay": ["c"], "shop": ["a", "b"]}
    assert store.services(kind=3) == {"shop": ["a"]}
    assert store.services(kind=4) == {}


def test_an_event_counts_once_per_source_whatever_its_time(store: DuckDBStore) -> None:
    week_ms = 7 * 86_400_000
    first = {"event_id": "1", "ts_ms": 1_000, "amount": Decimal("12.3400"), "returning": True}
    store.append(events(first, first | {"ts_ms": 2_000}, {"event_id": "2"})).result(timeout=60)
    again = events(first | {"ts_ms": week_ms}, first | {"source": "app", "ts_ms": 3_000})
    store.append(again).result(timeout=60)
    found = store.events(0, 2 * week_ms)
    assert found.schema == EVENT_READ_SCHEMA
    assert [(row["source"], row["event_id"], row["ts_ms"]) for row in found.to_pylist()] == [
        ("web", "1", 1_000),
        ("web", "2", 1_000),
        ("app", "1", 3_000),
    ]
    assert found.column("amount")[0].as_py() == Decimal("12.3400")


def test_events_by_time_type_and_arrival(store: DuckDBStore) -> None:
    store.append(
        events(
            {"event_id": "1", "ts_ms": 3_000},
            {"event_id": "2", "ts_ms": 1_000, "type": "refund"},
            {"event_id": "3", "ts_ms": 2_000},
        )
    ).result(timeout=60)
    assert store.events(1_000, 3_000).column("event_id").to_pylist() == ["2", "3"]
    assert store.events(0, 9_000, types=["refund"]).column("event_id").to_pylist() == ["2"]
    arrived = store.events_after(0, limit=2)
    assert arrived.column("event_id").to_pylist() == ["1", "2"]
    last = arrived.column("seq")[-1].as_py()
    assert store.events_after(last).column("event_id").to_pylist() == ["3"]


def test_readers_see_whole_batches_while_writing_goes_on(store: DuckDBStore) -> None:
    series = [Labels.of(__name__="m", n=str(n)) for n in range(20)]
    stop = threading.Event()
    torn: list[object] = []

    def read() -> None:
        while not stop.is_set():
            found = store.select([equal("__name__", "m")], 0, 10**9)
            lengths = set(np.diff(found.offsets).tolist())
            if len(lengths) > 1 or len(found.series) not in {0, 20}:
                torn.append((lengths, len(found.series)))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for ts_ms in range(50):
        put(store, *((one, ts_ms * 1_000, 1.0) for one in series))
    stop.set()
    for reader in readers:
        reader.join()
    assert torn == []
    assert len(store.select([], 0, 10**9).ts_ms) == 1_000
