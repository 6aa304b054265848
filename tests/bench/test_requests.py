"""What the benchmarks send is what a Prometheus or an SDK would send."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.series import SCRAPE_MS, buckets, counters, mixed_values, requests
from bench.shop_traces import bodies
from bench.table import OURS, Row, Table, markdown, number
from collector.remote_write.decode import Memory, decode, decompress
from store.model import Labels

FIRST_MS = 1_790_000_000_000


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 2500), st.integers(1, 4), st.integers(1, 9))
def test_every_sample_is_sent_once_and_in_the_order_of_its_series(
    count: int, scrapes: int, connections: int
) -> None:
    series = counters(count)
    values = mixed_values(count, scrapes, seed=1)
    sent: dict[Labels, list[tuple[int, float]]] = {}
    cache = Memory()
    for mine in requests(series, values, FIRST_MS, connections):
        for request in mine:
            batch = decode(decompress(body_of(request)), cache).batch
            assert len(batch) <= 2_000
            rows = zip(
                batch.series_index.tolist(),
                batch.ts_ms.tolist(),
                batch.values.tolist(),
                strict=True,
            )
            for place, ts_ms, value in rows:
                sent.setdefault(batch.series[place], []).append((ts_ms, value))
    times = [FIRST_MS + at * SCRAPE_MS for at in range(scrapes)]
    wanted = {
        Labels(labels): list(zip(times, values[:, place].tolist(), strict=True))
        for place, labels in enumerate(series)
    }
    assert sent == wanted


def test_series_are_distinct_and_their_labels_are_sorted() -> None:
    for series in (counters(20_000), buckets(20_000)):
        assert len(set(series)) == 20_000
        assert all(list(labels) == sorted(labels) for labels in series[:200])


def test_counters_never_fall_and_constants_never_move() -> None:
    values = mixed_values(100, 50, seed=2)
    steps = np.diff(values, axis=0)
    kind = np.arange(100) % 10
    assert (steps[:, kind < 4] >= 0).all()
    assert (steps[:, (kind >= 4) & (kind < 7)] == 0).all()
    assert (steps[:, kind >= 7] != 0).any()


def test_traces_are_whole_and_one_in_ten_loops() -> None:
    made = bodies(3_000, seed=1)
    spans = []
    for request in made.requests:
        message = ExportTraceServiceRequest.FromString(body_of(request))
        spans += [span for scope in message.resource_spans[0].scope_spans for span in scope.spans]
    assert len(spans) == made.spans >= 3_000
    roots = {span.span_id for span in spans if not span.parent_span_id}
    assert {span.parent_span_id for span in spans if span.parent_span_id} == roots
    assert len({span.span_id for span in spans}) == len(spans)
    sizes = Counter(span.trace_id for span in spans)
    looping = sum(size > 24 for size in sizes.values())
    assert abs(looping - len(sizes) / 10) <= 1


def test_a_ratio_above_one_means_that_we_are_better() -> None:
    faster = Row("speed", "samples/s", "more", {OURS: 300.0, "peer": 100.0})
    smaller = Row("size", "bytes", "less", {OURS: 2.0, "peer": 6.0})
    alone = Row("size", "bytes", "less", {OURS: 2.0})
    assert faster.ratio("peer") == smaller.ratio("peer") == 3.0
    assert alone.ratio("peer") is None


def test_a_table_has_a_column_a_target_and_none_for_absent_ones() -> None:
    rows = [Row("speed", "samples/s", "more", {OURS: 1_234_567.0, "peer": 100.0})]
    text = markdown(Table("speed", "Speed", rows), [OURS, "peer", "absent"])
    assert "| what  | unit      |   warroom | peer | × peer |" in text
    assert "| speed | samples/s | 1,234,567 |  100 | 12,346 |" in text
    assert "absent" not in text
    assert number(0.01234) == "0.0123"
