"""OTLP metric translation: names, temporality, histograms, staleness, exemplars."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    Metric,
)

from collector.otlp.delta import DeltaState
from collector.otlp.exemplars import MAX_EXEMPLARS, MAX_KEPT, MAX_READ
from collector.otlp.exponential import MAX_BUCKETS, native_histogram
from collector.otlp.metrics import MetricDecoder
from collector.otlp.names import label_name, labels_of, metric_name
from store.errors import LimitExceeded
from store.model import STALE_NAN_BITS, Labels, MetricType
from tests.collector.remote_write_bytes import field

Buckets = ExponentialHistogramDataPoint.Buckets
NOW_MS = 1_790_000_000_000
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def body(*fills: Callable[[Metric], None], resource: dict[str, str] | None = None) -> bytes:
    request = ExportMetricsServiceRequest()
    holder = request.resource_metrics.add()
    for key, value in (resource or {"service.name": "shop"}).items():
        holder.resource.attributes.add(key=key).value.string_value = value
    scope = holder.scope_metrics.add()
    for fill in fills:
        fill(scope.metrics.add())
    return request.SerializeToString()


def counter(
    value: float, ts_ms: int = NOW_MS, temporality: Any = DELTA
) -> Callable[[Metric], None]:
    def fill(metric: Metric) -> None:
        metric.name = "orders"
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = temporality
        metric.sum.data_points.add(time_unix_nano=ts_ms * 1_000_000, as_double=value)

    return fill


def decoded(decoder: MetricDecoder, data: bytes) -> dict[Labels, float]:
    batch = decoder.decode(data, NOW_MS).batch
    return {
        batch.series[place]: value
        for place, value in zip(batch.series_index.tolist(), batch.values.tolist(), strict=True)
    }


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.request.duration", "s", "", "http_server_request_duration_seconds"),
        ("http.server.duration", "ms", "", "http_server_duration_milliseconds"),
        ("system.cpu.time", "s", "counter", "system_cpu_time_seconds_total"),
        ("network.io", "By/s", "", "network_io_bytes_per_second"),
        ("cpu.utilization", "1", "gauge", "cpu_utilization_ratio"),
        ("cpu.utilization", "1", "", "cpu_utilization"),
        ("orders", "{order}", "counter", "orders_total"),
        ("total.orders.total", "", "counter", "orders_total"),
        ("wait__seconds..x", "s", "", "wait_seconds_x"),
        ("2xx.responses", "", "", "_2xx_responses"),
        ("a:b", "", "", "a:b"),
        ("memory", "{page}/s", "", "memory_per_second"),
        ("temp", "furlong", "", "temp_furlong"),
        ("...", "s", "", ""),
    ],
)
def test_names_follow_the_translator(name: str, unit: str, kind: str, expected: str) -> None:
    assert metric_name(name, unit, counter=kind == "counter", gauge=kind == "gauge") == expected


def test_labels_that_become_one_are_joined() -> None:
    assert labels_of([("a.b", "2"), ("a-b", "1")]) == {"a_b": "1;2"}
    assert label_name("9.lives") == "key_9_lives"


def test_deltas_add_up_and_a_retry_does_not_count_twice() -> None:
    decoder = MetricDecoder()
    series = Labels.of(__name__="orders_total", job="shop")
    totals = [
        decoded(decoder, body(counter(value, ts)))[series]
        for value, ts in ((2, NOW_MS), (3, NOW_MS + 1), (3, NOW_MS + 1), (5, NOW_MS + 2))
    ]
    assert totals == [2, 5, 5, 10]
    late = decoder.decode(body(counter(1, NOW_MS)), NOW_MS)
    assert late.rejections.sentence() == "rejected: 1 x delta_out_of_order"


@given(st.lists(st.integers(0, 1000), max_size=30))
def test_a_running_total_is_the_sum_of_its_deltas(deltas: list[int]) -> None:
    state = DeltaState()
    series = Labels.of(__name__="x")
    totals = [state.add(series, delta, place) for place, delta in enumerate(deltas)]
    assert totals == np.cumsum(deltas).tolist()


def test_delta_memory_is_bounded() -> None:
    state = DeltaState(max_series=10)
    for place in range(100):
        state.add(Labels.of(__name__="x", n=str(place)), 1, NOW_MS)
    assert len(state) == 10


def test_delta_histograms_become_cumulative() -> None:
    def histogram(ts_ms: int) -> Callable[[Metric], None]:
        def fill(metric: Metric) -> None:
            metric.name, metric.unit = "latency", "s"
            metric.histogram.aggregation_temporality = DELTA
            metric.histogram.data_points.add(
                time_unix_nano=ts_ms * 1_000_000,
                count=4,
                sum=7.5,
                explicit_bounds=[0.25, 5],
                bucket_counts=[1, 2, 1],
            )

        return fill

    decoder = MetricDecoder()
    decoded(decoder, body(histogram(NOW_MS)))
    found = decoded(decoder, body(histogram(NOW_MS + 1)))
    by_le = {s.get("le"): v for s, v in found.items() if s.metric == "latency_seconds_bucket"}
    assert by_le == {"0.25": 2, "5": 6, "+Inf": 8}
    assert found[Labels.of(__name__="latency_seconds_sum", job="shop")] == 15


def test_a_point_without_a_value_is_a_staleness_marker() -> None:
    def gone(metric: Metric) -> None:
        metric.name = "queue"
        metric.gauge.data_points.add(time_unix_nano=NOW_MS * 1_000_000, flags=1)

    batch = MetricDecoder().decode(body(gone), NOW_MS).batch
    assert batch.values.view(np.uint64).tolist() == [STALE_NAN_BITS]


def test_summaries_exemplars_and_identity_are_translated() -> None:
    def summary(metric: Metric) -> None:
        metric.name = "rpc"
        point = metric.summary.data_points.add(time_unix_nano=NOW_MS * 1_000_000, count=3, sum=6)
        point.quantile_values.add(quantile=0.99, value=4)

    def with_exemplar(metric: Metric) -> None:
        metric.name = "latency"
        metric.histogram.aggregation_temporality = CUMULATIVE
        point = metric.histogram.data_points.add(
            time_unix_nano=NOW_MS * 1_000_000, count=1, explicit_bounds=[1], bucket_counts=[0, 1]
        )
        point.exemplars.add(
            time_unix_nano=NOW_MS * 1_000_000, as_double=2.0, trace_id=bytes([10] * 16)
        )

    resource = {
        "service.name": "shop",
        "service.namespace": "eu",
        "service.instance.id": "i",
        "deployment.environment": "prod",
    }
    result = MetricDecoder().decode(body(summary, with_exemplar, resource=resource), NOW_MS)
    series = {s.metric: s for s in result.batch.series}
    assert series["rpc"].to_dict() == {
        "__name__": "rpc",
        "quantile": "0.99",
        "job": "eu/shop",
        "instance": "i",
    }
    assert series["target_info"].get("deployment_environment") == "prod"
    (exemplar,) = result.batch.exemplars
    assert exemplar.series.get("le") == "+Inf"
    assert exemplar.labels == Labels.of(trace_id="0a" * 16)
    types = {m.family: m.type for m in result.batch.metadata}
    assert types["rpc"] is MetricType.SUMMARY
    assert types["latency"] is MetricType.HISTOGRAM


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (counter(1, temporality=0), "unspecified_temporality"),
        (counter(1, 0), "absurd_time"),
        (counter(1, NOW_MS + 10**9), "absurd_time"),
        (lambda metric: setattr(metric, "name", "x"), "metric_without_data"),
        (lambda metric: metric.gauge.data_points.add(), "no_metric_name"),
    ],
    ids=["temporality", "too old", "too new", "no data", "no name"],
)
def test_a_bad_metric_costs_only_itself(fill: Callable[[Metric], None], reason: str) -> None:
    result = MetricDecoder().decode(body(counter(1, temporality=CUMULATIVE), fill), NOW_MS)
    assert len(result.batch) == 1
    assert result.rejections.sentence() == f"rejected: 1 x {reason}"


def test_mismatched_buckets_are_refused() -> None:
    def wrong(metric: Metric) -> None:
        metric.name = "h"
        metric.histogram.aggregation_temporality = CUMULATIVE
        metric.histogram.data_points.add(
            time_unix_nano=NOW_MS * 1_000_000, explicit_bounds=[1, 2], bucket_counts=[1]
        )
        metric.histogram.data_points.add(
            time_unix_nano=NOW_MS * 1_000_000, explicit_bounds=[2, 1], bucket_counts=[1, 1, 1]
        )

    result = MetricDecoder().decode(body(wrong), NOW_MS)
    assert len(result.batch) == 0
    assert result.rejections.total == 2


side = st.builds(
    lambda offset, counts: Buckets(offset=offset, bucket_counts=counts),
    st.integers(-2000, 2000),
    st.lists(st.integers(0, 50), max_size=200),
)


@given(st.integers(-4, 20), side, side, st.integers(0, 9))
def test_exponential_buckets_become_native_ones_and_lose_no_count(
    scale: int, positive: Any, negative: Any, zeros: int
) -> None:
    total = sum(positive.bucket_counts) + sum(negative.bucket_counts) + zeros
    point = ExponentialHistogramDataPoint(
        scale=scale, positive=positive, negative=negative, zero_count=zeros, count=total
    )
    found = native_histogram(point)
    assert found is not None
    assert found.schema == min(scale, 8)
    assert sum(found.positive.counts) == sum(positive.bucket_counts)
    assert sum(found.negative.counts) == sum(negative.bucket_counts)
    assert (found.count, found.zero_count) == (total, zeros)


def test_an_exponential_bound_is_where_its_values_are() -> None:
    point = ExponentialHistogramDataPoint(
        scale=0, positive=Buckets(offset=0, bucket_counts=[3, 0, 1]), count=4
    )
    found = native_histogram(point)
    assert found is not None
    bounds = [(bucket.lower, bucket.upper, bucket.count) for bucket in found.buckets()]
    assert bounds == [(1.0, 2.0, 3.0), (4.0, 8.0, 1.0)]


@pytest.mark.parametrize(
    "point",
    [
        ExponentialHistogramDataPoint(scale=21),
        ExponentialHistogramDataPoint(scale=-5),
        ExponentialHistogramDataPoint(positive=Buckets(bucket_counts=[1] * (MAX_BUCKETS + 1))),
        ExponentialHistogramDataPoint(positive=Buckets(offset=(1 << 30) + 1, bucket_counts=[1])),
        ExponentialHistogramDataPoint(zero_threshold=-1.0),
    ],
    ids=["too fine", "too coarse", "too many", "too far", "no width"],
)
def test_an_exponential_histogram_that_cannot_be_is_refused(point: Any) -> None:
    assert native_histogram(point) is None


def exponential(ts_ms: int, *counts: int, temporality: Any, flags: int = 0) -> Any:
    def fill(metric: Metric) -> None:
        metric.name = "wait"
        metric.unit = "s"
        metric.exponential_histogram.aggregation_temporality = temporality
        metric.exponential_histogram.data_points.add(
            time_unix_nano=ts_ms * 1_000_000,
            count=sum(counts),
            sum=float(sum(counts)),
            scale=1,
            positive=Buckets(offset=0, bucket_counts=counts),
            flags=flags,
        )

    return fill


def test_an_exponential_histogram_is_one_native_sample() -> None:
    decoded = MetricDecoder().decode(
        body(exponential(NOW_MS, 3, 1, temporality=CUMULATIVE)), NOW_MS
    )
    (sample,) = decoded.batch.histograms
    assert decoded.batch.series[sample.series_index].metric == "wait_seconds"
    assert (sample.ts_ms, sample.histogram.count, sample.histogram.sum) == (NOW_MS, 4.0, 4.0)
    assert list(sample.histogram.positive.items()) == [(1, 3.0), (2, 1.0)]
    assert len(decoded.batch) == 1
    assert sum(decoded.by_source.values()) == 1


def test_delta_exponential_histograms_add_up() -> None:
    decoder = MetricDecoder()
    totals = []
    for step, counts in enumerate([(1, 0), (2, 5)]):
        fill = exponential(NOW_MS + step, *counts, temporality=DELTA)
        (found,) = decoder.decode(body(fill), NOW_MS).batch.histograms
        totals.append(dict(found.histogram.positive.items()))
    assert totals == [{1: 1.0}, {1: 3.0, 2: 5.0}]
    late = decoder.decode(body(exponential(NOW_MS - 9, 1, 1, temporality=DELTA)), NOW_MS)
    assert late.rejections.sentence() == "rejected: 1 x delta_out_of_order"


def test_an_exponential_histogram_without_a_value_ends_its_series() -> None:
    fill = exponential(NOW_MS, 1, temporality=CUMULATIVE, flags=1)
    batch = MetricDecoder().decode(body(fill), NOW_MS).batch
    assert batch.histograms == ()
    assert batch.values.view(np.uint64).tolist() == [STALE_NAN_BITS]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1.0, "negative_delta"),
        (float("inf"), "delta_not_finite"),
        (float("nan"), "delta_not_finite"),
    ],
)
def test_a_delta_that_would_spoil_its_total_is_refused(value: float, reason: str) -> None:
    decoder = MetricDecoder()
    series = Labels.of(__name__="orders_total", job="shop")
    decoded(decoder, body(counter(7)))
    bad = decoder.decode(body(counter(value, NOW_MS + 1)), NOW_MS)
    assert bad.rejections.sentence() == f"rejected: 1 x {reason}"
    assert decoded(decoder, body(counter(2, NOW_MS + 2)))[series] == 9


@pytest.mark.parametrize("kind", ["histogram", "exponential_histogram"])
def test_a_delta_histogram_whose_sum_is_no_number_counts_nothing(kind: str) -> None:
    def spoilt(metric: Metric) -> None:
        metric.name = "wait"
        data = getattr(metric, kind)
        data.aggregation_temporality = DELTA
        data.data_points.add(time_unix_nano=NOW_MS * 1_000_000, count=1, sum=float("inf"))

    result = MetricDecoder().decode(body(spoilt), NOW_MS)
    assert result.rejections.sentence() == "rejected: 1 x delta_not_finite"
    assert len(result.batch) == 0


def test_a_delta_that_falls_is_taken_where_it_may_fall() -> None:
    def updown(value: int, ts_ms: int) -> Callable[[Metric], None]:
        def fill(metric: Metric) -> None:
            metric.name = "carts"
            metric.sum.aggregation_temporality = DELTA
            metric.sum.data_points.add(time_unix_nano=ts_ms * 1_000_000, as_int=value)

        return fill

    decoder = MetricDecoder()
    found = [decoded(decoder, body(updown(value, NOW_MS + value))) for value in (-3, 5, 9)]
    assert [list(one.values()) for one in found] == [[-3.0], [2.0], [11.0]]


@pytest.mark.parametrize("kind", ["sum", "histogram", "exponential_histogram"])
def test_each_point_of_an_unspecified_temporality_is_counted(kind: str) -> None:
    def unspecified(metric: Metric) -> None:
        metric.name = "x"
        for place in range(3):
            point = getattr(metric, kind).data_points.add(time_unix_nano=NOW_MS * 1_000_000)
            point.attributes.add(key="n").value.int_value = place

    result = MetricDecoder().decode(body(unspecified), NOW_MS)
    assert result.rejections.sentence() == "rejected: 3 x unspecified_temporality"


def test_a_counter_that_begins_anew_falls_as_prometheus_expects_it() -> None:
    decoder = MetricDecoder()
    series = Labels.of(__name__="orders_total", job="shop")
    totals = [
        decoded(decoder, body(counter(value, NOW_MS + place, CUMULATIVE)))[series]
        for place, value in enumerate((5, 9, 2))
    ]
    assert totals == [5, 9, 2]


def test_a_malformed_point_costs_only_itself() -> None:
    def points(metric: Metric) -> None:
        metric.name = "queue"
        for place in range(3):
            point = metric.gauge.data_points.add(time_unix_nano=NOW_MS * 1_000_000, as_int=place)
            point.attributes.add(key=f"name{place}").value.string_value = "x"

    data = body(points).replace(b"name1", b"nam\xff1")
    result = MetricDecoder().decode(data, NOW_MS)
    assert result.rejections.sentence() == "rejected: 1 x malformed_or_not_utf8"
    assert len(result.batch) == 2


def test_every_point_of_a_sender_that_cannot_be_read_is_counted() -> None:
    data = body(counter(1), counter(2), resource={"service.name": "shop"})
    result = MetricDecoder().decode(data.replace(b"shop", b"sh\xff\xff"), NOW_MS)
    assert dict(result.rejections.counts) == {("otlp:unknown_service", "malformed_or_not_utf8"): 2}


def request_of(data: bytes) -> bytes:
    """A request with one gauge, whose points are these bytes."""
    metric = field(1, b"queue") + field(5, data)
    return field(1, field(2, field(2, metric)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x00" * 5_001, "too_many_items"),
        (field(1, b"\x12\x00" * 20_001), "too_many_items"),
        (field(1, field(2, b"\x12\x00" * 100_001)), "too_many_items"),
        (request_of(b"\x0a\x00" * 200_001), "too_many_points"),
    ],
    ids=["resources", "scopes", "metrics", "points"],
)
def test_masses_of_empty_messages_are_refused_before_they_are_parsed(
    data: bytes, reason: str
) -> None:
    decoder = MetricDecoder()
    with pytest.raises(LimitExceeded) as caught:
        decoder.decode(data, NOW_MS)
    assert caught.value.reason == reason


def test_a_point_of_masses_of_attributes_is_refused_alone() -> None:
    result = MetricDecoder().decode(request_of(field(1, b"\x3a\x00" * 200_000)), NOW_MS)
    assert result.rejections.sentence() == "rejected: 1 x point_too_large"


def histogram_points(points: int, values: list[float], bounds: list[float]) -> bytes:
    """A request of histogram points, each with an exemplar a value, each later than the last."""

    def fill(metric: Metric) -> None:
        metric.name = "latency"
        metric.histogram.aggregation_temporality = CUMULATIVE
        for number in range(points):
            point = metric.histogram.data_points.add(
                time_unix_nano=NOW_MS * 1_000_000, count=1, explicit_bounds=bounds
            )
            point.bucket_counts[:] = [0] * (len(bounds) + 1)
            point.attributes.add(key="n").value.int_value = number
            for place, value in enumerate(values):
                point.exemplars.add(
                    time_unix_nano=NOW_MS * 1_000_000 + place * 1_000_000, as_double=value
                )

    return body(fill)


def test_a_bucket_keeps_its_newest_exemplar() -> None:
    values = [0.5, 1.0, 1.5, 9.0, 2.0, math.nan]
    batch = MetricDecoder().decode(histogram_points(1, values, [1, 2]), NOW_MS).batch
    found = {one.series.get("le"): (one.value, one.ts_ms - NOW_MS) for one in batch.exemplars}
    assert found["1"] == (1.0, 1)
    assert found["2"] == (2.0, 4)
    assert found["+Inf"][1] == 5


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.sets(st.integers(-9, 9)))
def test_an_exemplar_lies_in_the_bucket_of_its_value(values: list[float], cuts: set[int]) -> None:
    bounds = [float(cut) for cut in sorted(cuts)]
    batch = MetricDecoder().decode(histogram_points(1, values, bounds), NOW_MS).batch
    for exemplar in batch.exemplars:
        above = [bound for bound in bounds if exemplar.value <= bound]
        assert float(exemplar.series.get("le") or "nan") == (above[0] if above else math.inf)


def test_exemplars_are_read_up_to_a_bound_of_a_request_and_points_are_kept() -> None:
    points = MAX_EXEMPLARS // MAX_READ + 3
    values = [float(number) for number in range(MAX_READ + 500)]
    bounds = [float(number) for number in range(500)]
    batch = MetricDecoder().decode(histogram_points(points, values, bounds), NOW_MS).batch
    counts = [series for series in batch.series if series.metric == "latency_count"]
    assert len(counts) == points
    with_exemplar = {one.series.get("n") for one in batch.exemplars}
    assert len(with_exemplar) == MAX_EXEMPLARS // MAX_READ + 1
    # The last ones of a point are read: all of them are beyond the bounds.
    assert {one.value for one in batch.exemplars} == {values[-1]}


def test_a_counter_keeps_its_newest_exemplars() -> None:
    def fill(metric: Metric) -> None:
        counter(1, temporality=CUMULATIVE)(metric)
        (point,) = metric.sum.data_points
        for number in range(MAX_KEPT + 5):
            point.exemplars.add(time_unix_nano=(NOW_MS + number) * 1_000_000, as_int=number)
        point.exemplars.add(time_unix_nano=1, as_int=99)
        point.exemplars.add(time_unix_nano=NOW_MS * 1_000_000)

    batch = MetricDecoder().decode(body(fill), NOW_MS).batch
    assert [one.value for one in batch.exemplars] == list(range(5, MAX_KEPT + 5))
