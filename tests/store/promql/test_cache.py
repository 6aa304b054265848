"""Answers with a cache are those without it, whatever was written, late or deleted in between."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from store.changes import EVER_MS, ChangeLog
from store.errors import QueryError
from store.model import Float64Array, Int64Array, Labels, Matcher, RangeMatrix, SeriesSet
from store.promql.cache import RangeCache
from store.promql.context import QueryWindow
from store.promql.engine import Engine
from store.promql.parse import parse
from store.promql.planning import Reach, reach
from store.promql.testing import MemoryReader
from tests.store.promql import query_grammar as grammar

STEP_MS = 20_000
MINUTE_MS = 60_000
BASE_MS = grammar.BASE_S * 1000
HOSTS = "abc"
LOOKBACK_MS = 300_000


class Told(MemoryReader):
    """Samples in memory that say what has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = ChangeLog()
        self.asked: list[tuple[int, int]] = []

    @override
    def put(
        self,
        labels: Labels,
        ts_ms: Sequence[int] | Int64Array,
        values: Sequence[float] | Float64Array,
    ) -> None:
        super().put(labels, ts_ms, values)
        self.changes.note(np.asarray(ts_ms, dtype=np.int64))

    def delete(self, start_ms: int, end_ms: int) -> None:
        for labels, (ts, values) in list(self._series.items()):
            kept = (ts < start_ms) | (ts > end_ms)
            self._series[labels] = (ts[kept], values[kept])
        self.changes.note_span(start_ms, end_ms)

    @override
    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        max_samples: int = 50_000_000,
    ) -> SeriesSet:
        self.asked.append((start_ms, end_ms))
        return super().select(matchers, start_ms, end_ms, max_samples=max_samples)


@dataclass
class Shop:
    """One reader, asked with a cache and without."""

    reader: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        self.cache = RangeCache(self.reader.changes, 8 << 20)
        self.cached = Engine(self.reader, cache=self.cache)
        self.plain = Engine(self.reader)

    def write(self, metric: str, host: str, first_ms: int, values: Sequence[float]) -> None:
        labels = Labels.of(__name__=metric, host=host, route="/a")
        self.reader.put(labels, [first_ms + 15_000 * n for n in range(len(values))], values)

    def agree(self, query: str, start_ms: int, end_ms: int) -> None:
        wanted, notes = answer_of(self.plain, query, start_ms, end_ms)
        found, found_notes = answer_of(self.cached, query, start_ms, end_ms)
        assert found_notes == notes, query
        assert found.series == wanted.series, query
        assert found.steps_ms.tolist() == wanted.steps_ms.tolist()
        assert found.present.tolist() == wanted.present.tolist(), query
        # A series may stand elsewhere in a sum: its last digit may differ.
        mine, right = found.values[found.present], wanted.values[wanted.present]
        largest = np.abs(right[np.isfinite(right)]).max(initial=0.0)
        assert np.allclose(mine, right, rtol=1e-9, atol=largest * 1e-9, equal_nan=True), query


def answer_of(
    engine: Engine, query: str, start_ms: int, end_ms: int
) -> tuple[RangeMatrix, tuple[str, ...]]:
    """A matrix and what was said beside it; for an error an empty one."""
    try:
        answer = engine.query_range(query, start_ms, end_ms, STEP_MS)
    except QueryError as error:
        nothing = np.empty((0, 0))
        empty = RangeMatrix((), np.empty(0, np.int64), nothing, nothing.astype(np.bool_))
        return empty, (str(error),)
    assert isinstance(answer.result, RangeMatrix)
    return answer.result, (*answer.warnings, *answer.infos)


def moments(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high).map(lambda n: n * 5_000 + 511)


METRICS = st.sampled_from([*grammar.METRICS[:4], "ending"])
HOST = st.sampled_from(HOSTS)
VALUES = st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=12)
EVENTS = st.one_of(
    st.tuples(st.just("append"), METRICS, HOST, VALUES),
    st.tuples(st.just("append"), METRICS, HOST, VALUES),
    st.tuples(st.just("late"), METRICS, HOST, VALUES, moments(-400, 200)),
    st.tuples(st.just("delete"), moments(-300, 250), st.integers(1, 300_000)),
    st.tuples(st.just("retain"), moments(-300, 150)),
    st.tuples(st.just("ask"), st.integers(0, 30), st.integers(0, 30)),
    st.tuples(st.just("ask"), st.integers(0, 30), st.integers(0, 30)),
)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    query=st.one_of(grammar.exact_queries(), grammar.rough_queries()),
    events=st.lists(EVENTS, min_size=3, max_size=14),
)
def test_cached_answers_are_those_of_no_cache(query: str, events: list[tuple]) -> None:  # type: ignore[type-arg]
    shop = Shop()
    now = dict.fromkeys(grammar.METRICS, BASE_MS + 777)
    for host in HOSTS:
        shop.write("requests_total", host, BASE_MS - 10 * MINUTE_MS + 511, range(60))
    for event in events:
        match event:
            case "append", metric, host, values:
                shop.write(metric, host, now[metric], values)
                now[metric] += 15_000 * len(values)
            case "late", metric, host, values, moment:
                shop.write(metric, host, BASE_MS + moment, values)
            case "delete", moment, length:
                shop.reader.delete(BASE_MS + moment, BASE_MS + moment + length)
            case "retain", moment:
                shop.reader.delete(-EVER_MS, BASE_MS + moment)
            case "ask", first, count:
                start_ms = BASE_MS + first * STEP_MS
                shop.agree(query, start_ms, start_ms + count * STEP_MS)
            case _:
                pytest.fail(f"an event that is none: {event}")
    for first, last in ((-10, 20), (0, 40), (-20, 15)):
        shop.agree(query, BASE_MS + first * STEP_MS, BASE_MS + last * STEP_MS)


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    for host in HOSTS:
        shop.write("requests_total", host, BASE_MS - 30 * MINUTE_MS, range(240))
    return shop


QUERY = "sum by (host) (rate(requests_total[1m]))"


def ask(shop: Shop, end_ms: int, query: str = QUERY) -> list[tuple[int, int]]:
    """What was read from the store for the last quarter of an hour."""
    shop.reader.asked.clear()
    shop.cached.range(query, end_ms - 15 * MINUTE_MS, end_ms, STEP_MS)
    asked = list(shop.reader.asked)
    shop.agree(query, end_ms - 15 * MINUTE_MS, end_ms)
    return asked


def test_a_dashboard_that_refreshes_reads_only_what_is_new(shop: Shop) -> None:
    assert ask(shop, BASE_MS) == [(BASE_MS - 16 * MINUTE_MS + 1, BASE_MS)]
    assert ask(shop, BASE_MS) == []
    later_ms = BASE_MS + 2 * STEP_MS
    assert ask(shop, later_ms) == [(BASE_MS + STEP_MS - MINUTE_MS + 1, later_ms)]
    stats = shop.cache.stats()
    assert (stats.misses, stats.entries) == (1, 1)
    assert stats.steps_reused >= 46 + 44
    assert 0 < stats.bytes < 10_000


def test_a_late_sample_is_seen_however_late_it_is(shop: Shop) -> None:
    ask(shop, BASE_MS)
    late_ms = BASE_MS - 10 * MINUTE_MS + 3
    shop.write("requests_total", "a", late_ms, [1e6])
    asked = ask(shop, BASE_MS)
    assert asked
    assert all(low <= late_ms for low, _ in asked[:1])


def test_deleted_samples_are_gone_from_answers(shop: Shop) -> None:
    ask(shop, BASE_MS)
    shop.reader.delete(BASE_MS - 5 * MINUTE_MS, BASE_MS - 4 * MINUTE_MS)
    assert ask(shop, BASE_MS)


@pytest.mark.parametrize(
    "query",
    [
        "requests_total @ end()",
        "requests_total - requests_total @ start()",
        "rate(requests_total[1m] @ 1700000000)",
        "end() + sum(requests_total)",
        "max_over_time(requests_total[5m:1m] @ end())",
        "info(requests_total)",
        "rate(requests_total[range()])",
        "sum_over_time(requests_total[min_of(1m, range())])",
        "vector(time())",
        "rate(depth[1m])",  # its answer has an info
    ],
)
def test_what_does_not_depend_on_samples_nearby_alone_is_evaluated_each_time(
    shop: Shop, query: str
) -> None:
    shop.write("depth", "a", BASE_MS - 30 * MINUTE_MS, range(240))
    for _ in range(2):
        shop.agree(query, BASE_MS - 5 * MINUTE_MS, BASE_MS)
    stats = shop.cache.stats()
    assert stats.hits == 0
    assert stats.entries == 0


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("m", Reach(LOOKBACK_MS, 0)),
        ("m offset 1m", Reach(LOOKBACK_MS + 60_000, -60_000)),
        ("m offset -1m", Reach(LOOKBACK_MS - 60_000, 60_000)),
        ("m smoothed", Reach(LOOKBACK_MS, LOOKBACK_MS)),
        ("rate(m[2m])", Reach(120_000, 0)),
        ("rate(m[2m] anchored)", Reach(120_000 + LOOKBACK_MS, 0)),
        ("rate(m[2m] smoothed)", Reach(120_000 + LOOKBACK_MS, LOOKBACK_MS)),
        ("max_over_time(rate(m[2m])[10m:1m] offset 1m)", Reach(780_000, -60_000)),
        ("m + m offset -1m", Reach(LOOKBACK_MS, 60_000)),
        ("rate(m[step() * 2])", Reach(40_000, 0)),
        ("topk(scalar(m offset 1h), m)", Reach(3_900_000, 0)),
        ("time()", None),
        ("m @ 1", None),
    ],
)
def test_how_far_a_step_reaches_is_known_from_the_query(query: str, wanted: Reach | None) -> None:
    assert reach(parse(query), QueryWindow(0, 600_000, STEP_MS), LOOKBACK_MS) == wanted


def test_the_cache_stays_within_its_bytes(shop: Shop) -> None:
    small = RangeCache(shop.reader.changes, 20_000)
    engine = Engine(shop.reader, cache=small)
    for shift in range(40):
        engine.range(f"sum(rate(requests_total[1m])) + {shift}", BASE_MS - 600_000, BASE_MS, 20_000)
        assert small.stats().bytes <= 20_000
    assert 1 < small.stats().entries < 40
    engine.range("requests_total", BASE_MS - 1_000_000, BASE_MS, 1_000)
    assert small.stats().bytes <= 20_000


def test_other_steps_phases_and_lookbacks_are_other_answers(shop: Shop) -> None:
    ask(shop, BASE_MS)
    assert ask(shop, BASE_MS + 1)
    shop.reader.asked.clear()
    shop.cached.query_range(QUERY, BASE_MS - 15 * MINUTE_MS, BASE_MS, STEP_MS, lookback_ms=60_000)
    shop.cached.query_range(QUERY, BASE_MS - 15 * MINUTE_MS, BASE_MS, 2 * STEP_MS)
    assert len(shop.reader.asked) == 2


def test_changes_too_long_ago_are_no_longer_known() -> None:
    log = ChangeLog()
    first = log.version()
    for step in range(5000):
        log.note_span(step, step)
        log.version()
    assert log.changed_since(first) is None
    assert log.changed_since(log.version()) == []
    assert log.changed_since(log.version() + 1) is None


@given(
    batches=st.lists(
        st.lists(st.integers(-(10**8), 10**8), min_size=1, max_size=80), min_size=1, max_size=20
    )
)
def test_every_written_time_is_within_a_changed_span(batches: list[list[int]]) -> None:
    log = ChangeLog()
    versions = [log.version()]
    for batch in batches:
        log.note(np.array(batch, dtype=np.int64))
        versions.append(log.version())
    for place, version in enumerate(versions):
        spans = log.changed_since(version)
        assert spans is not None
        assert len(spans) <= 64
        for ts_ms in (ts for batch in batches[place:] for ts in batch):
            assert any(low <= ts_ms <= high for low, high in spans)
