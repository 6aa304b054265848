"""The real SDK's exporters with their preference for deltas, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcExporter,
)
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpExporter,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from collector.otlp.ingest import OtlpIngest
from collector.receivers.otlp_grpc import OtlpGrpcServer
from collector.receivers.otlp_http import routes
from store.model import SampleBatch

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE


@pytest.fixture
def grpc_address(pipeline: Any) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = OtlpGrpcServer(OtlpIngest(pipeline), "127.0.0.1:0")
    port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
    yield f"127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


@pytest.fixture(params=["http", "grpc"])
def exporter(request: Any, pipeline: Any, serve: Any, grpc_address: str) -> Any:
    def made(temporality: AggregationTemporality) -> Any:
        kinds: tuple[type, ...] = (Counter, Histogram, UpDownCounter)
        preferred = dict.fromkeys(kinds, temporality)
        if request.param == "grpc":
            return GrpcExporter(grpc_address, insecure=True, preferred_temporality=preferred)
        url = serve(routes(OtlpIngest(pipeline)))
        return HttpExporter(f"{url}/v1/metrics", preferred_temporality=preferred)

    return made


def histograms(appender: Any) -> list[tuple[str, float, float]]:
    return [
        (batch.series[sample.series_index].metric, sample.histogram.count, sample.histogram.sum)
        for batch in appender.batches
        if isinstance(batch, SampleBatch)
        for sample in batch.histograms
    ]


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
def test_both_temporalities_end_in_the_same_totals(
    exporter: Any, appender: Any, clock: Any, temporality: AggregationTemporality
) -> None:
    clock.now_ms = time.time_ns() // 1_000_000 + 60_000
    reader = PeriodicExportingMetricReader(exporter(temporality), 3_600_000)
    resource = Resource({"service.name": "shop", "service.instance.id": "i"})
    native = View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource, views=[native])
    meter = provider.get_meter("m")
    orders = meter.create_counter("orders", "{order}")
    carts = meter.create_up_down_counter("carts")
    waits = meter.create_histogram("wait", "s", explicit_bucket_boundaries_advisory=[0.1, 1])
    sizes = meter.create_histogram("size", "By")
    for number in range(3):
        orders.add(number + 1, {"kind": "web"})
        carts.add(1 - number)
        waits.record(0.05 * 10**number)
        sizes.record(2.0**number)
        assert provider.force_flush(30_000)
    provider.shutdown()

    found = {
        (series.metric, series.get("le")): rows[-1][1]
        for series, rows in appender.samples().items()
    }
    assert found["orders_total", ""] == 6
    assert found["carts", ""] == 0
    assert [found["wait_seconds_bucket", le] for le in ("0.1", "1", "+Inf")] == [1, 2, 3]
    assert found["wait_seconds_count", ""] == 3
    assert found["wait_seconds_sum", ""] == pytest.approx(5.55)
    name, count, total = histograms(appender)[-1]
    assert (name, count, total) == ("size_bytes", 3, 7)


def test_exemplars_of_the_sdk_lead_to_their_trace(exporter: Any, appender: Any, clock: Any) -> None:
    clock.now_ms = time.time_ns() // 1_000_000 + 60_000
    reader = PeriodicExportingMetricReader(exporter(DELTA), 3_600_000)
    provider = MeterProvider([reader], Resource({"service.name": "shop"}))
    waits = provider.get_meter("m").create_histogram("wait", "s")
    tracers = TracerProvider()
    with tracers.get_tracer("t").start_as_current_span("GET") as span:
        waits.record(0.3)
    provider.shutdown()
    tracers.shutdown()
    exemplars = [
        exemplar
        for batch in appender.batches
        if isinstance(batch, SampleBatch)
        for exemplar in batch.exemplars
    ]
    assert [one.labels.get("trace_id") for one in exemplars] == [
        f"{span.get_span_context().trace_id:032x}"
    ]
    assert exemplars[0].series.metric == "wait_seconds_bucket"
