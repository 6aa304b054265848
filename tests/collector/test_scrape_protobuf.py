"""The protobuf format: what is asked for, native histograms, and bytes that nobody sent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collector.scrape.config import ScrapeConfig, parse_scrape_configs
from collector.scrape.protobuf_format import HistogramChoice, ProtobufParser
from collector.scrape.protocols import Protocol, protocol_of
from collector.scrape.scraper import Scraper
from collector.scrape.text_format import Page
from store.documents import parse_document
from store.errors import BadInput, ConfigError, LimitExceeded
from store.histograms import Buckets, NativeHistogram, ResetHint
from store.model import STALE_NAN_BITS, Labels, MetricType, SampleBatch
from tests.collector import exposition_bytes as made

NOW_MS = 1_790_000_000_000
LATENCY = made.histogram(
    10,
    4.5,
    made.bucket(4, 0.25, made.exemplar({"trace_id": "abc"}, 0.2, NOW_MS - 5)),
    made.bucket(9, 1.0),
    native=made.native(3, [(-2, 2), (3, 1)], [3, 1, -2], zero_count=1, negative=([(0, 1)], [1])),
)


class Shop:
    """A page that tests change, and what was asked for."""

    def __init__(self) -> None:
        self.page = made.family("latency_seconds", made.HISTOGRAM, made.metric(LATENCY))
        self.content_type = made.CONTENT_TYPE
        self.accept = ""

    async def metrics(self, request: Request) -> Response:
        self.accept = request.headers["accept"]
        return Response(self.page, headers={"content-type": self.content_type})


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def address(shop: Shop, serve: Any) -> str:
    return str(serve([Route("/metrics", shop.metrics)])).removeprefix("http://")


def job(address: str, *extra: str) -> tuple[ScrapeConfig, ...]:
    lines = [f"static_configs: [{{targets: ['{address}']}}]", *extra]
    text = "scrape_configs:\n  - job_name: shop\n" + "".join(f"    {line}\n" for line in lines)
    return parse_scrape_configs(parse_document(text, "warroom.yaml"), ("scrape_configs",))


def scrape(scraper: Scraper, *instants: int) -> None:
    async def run() -> None:
        for now_ms in instants:
            for target in scraper.targets():
                await scraper.scrape(target, now_ms)
        await scraper.aclose()

    asyncio.run(run())


def stored(appender: Any) -> dict[str, NativeHistogram]:
    """Native histograms by the metric and the label `kind`."""
    found = {}
    for batch in appender.batches:
        assert isinstance(batch, SampleBatch)
        for sent in batch.histograms:
            found[batch.series[sent.series_index].metric] = sent.histogram
    return found


def shown(appender: Any) -> dict[str, float]:
    """Float samples by their series, without the report and the labels of the target."""
    found = {}
    for series, rows in appender.samples().items():
        if series.metric == "up" or series.metric.startswith("scrape_"):
            continue
        rest = {
            k: v for k, v in series.to_dict().items() if k not in ("__name__", "job", "instance")
        }
        found[series.metric + (str(rest) if rest else "")] = rows[-1][1]
    return found


def test_native_histograms_are_asked_for_only_where_they_are_wanted(
    shop: Shop, address: str, pipeline: Any
) -> None:
    scrape(Scraper(job(address), pipeline), NOW_MS)
    assert "protobuf" not in shop.accept
    assert shop.accept.startswith("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8")
    scrape(Scraper(job(address, "scrape_native_histograms: true"), pipeline), NOW_MS)
    assert shop.accept.startswith(
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
        "encoding=delimited;escaping=allow-utf-8;q=0.6,application/openmetrics-text"
    )
    chosen = (
        "scrape_protocols: [PrometheusText0.0.4, OpenMetricsText1.0.0]",
        "metric_name_validation_scheme: legacy",
    )
    scrape(Scraper(job(address, *chosen), pipeline), NOW_MS)
    assert shop.accept == (
        "text/plain;version=0.0.4;q=0.6,"
        "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,*/*;q=0.1"
    )


def test_a_native_histogram_is_stored_with_its_exemplars_and_goes_stale(
    shop: Shop, address: str, pipeline: Any, appender: Any
) -> None:
    scraper = Scraper(job(address, "scrape_native_histograms: true"), pipeline)
    scrape(scraper, NOW_MS)
    assert stored(appender) == {
        "latency_seconds": NativeHistogram(
            schema=3,
            zero_threshold=0.001,
            zero_count=1.0,
            count=10.0,
            sum=4.5,
            positive=Buckets((-2, -1, 3), (3.0, 4.0, 2.0)),
            negative=Buckets((0,), (1.0,)),
        )
    }
    assert shown(appender) == {}, "the classic form of a native histogram is left out"
    batch = appender.batches[0]
    (told,) = batch.exemplars
    assert (told.series.metric, told.ts_ms, told.value) == ("latency_seconds", NOW_MS - 5, 0.2)
    assert told.labels == Labels({"trace_id": "abc"}.items())
    types = {meta.family: meta.type for meta in batch.metadata}
    assert types["latency_seconds"] is MetricType.HISTOGRAM
    shop.page = b""
    scrape(scraper, NOW_MS + 1000)
    (ended,) = [v for s, v in appender.samples().items() if s.metric == "latency_seconds"]
    assert ended[0][1].view("uint64") == STALE_NAN_BITS


def test_the_classic_form_is_taken_beside_it_where_that_is_asked(
    address: str, pipeline: Any, appender: Any
) -> None:
    extra = ("scrape_native_histograms: true", "always_scrape_classic_histograms: true")
    scrape(Scraper(job(address, *extra), pipeline), NOW_MS)
    assert list(stored(appender)) == ["latency_seconds"]
    assert shown(appender) == {
        "latency_seconds_bucket{'le': '0.25'}": 4.0,
        "latency_seconds_bucket{'le': '1.0'}": 9.0,
        "latency_seconds_bucket{'le': '+Inf'}": 10.0,
        "latency_seconds_sum": 4.5,
        "latency_seconds_count": 10.0,
    }


def test_without_the_wish_only_the_classic_form_of_a_protobuf_page_is_taken(
    address: str, pipeline: Any, appender: Any
) -> None:
    scrape(Scraper(job(address, "scrape_protocols: [PrometheusProto]"), pipeline), NOW_MS)
    assert stored(appender) == {}
    assert shown(appender)["latency_seconds_bucket{'le': '+Inf'}"] == 10.0


def test_every_other_kind_is_read(shop: Shop, address: str, pipeline: Any, appender: Any) -> None:
    shop.page = b"".join(
        (
            made.family(
                "orders_total",
                made.COUNTER,
                made.metric(made.counter(7, made.exemplar({"id": "1"}, 1.0)), {"shop": "de"}),
                made.metric(made.counter(8), {"shop": "fr"}, at_ms=NOW_MS - 9),
                told="Orders.",
                unit="orders",
            ),
            made.family("carts", made.GAUGE, made.metric(made.gauge(float("inf")))),
            made.family("shop.carts", made.UNTYPED, made.metric(made.untyped(-2))),
            made.family("size", made.SUMMARY, made.metric(made.summary(3, 1.5, {0.5: 0.4, 1: 2}))),
            made.family(
                "queue",
                made.GAUGE_HISTOGRAM,
                made.metric(made.histogram(2, 1.0, native=made.native(0, [(0, 1)], [2]))),
            ),
            made.family("idle", made.HISTOGRAM, made.metric(
                made.histogram(0, 0.0, native=made.native(3, [(0, 0)], [], zero_threshold=0.0)))),
        )
    )  # fmt: skip
    scrape(Scraper(job(address, "scrape_native_histograms: true"), pipeline), NOW_MS)
    assert shown(appender) == {
        "orders_total{'shop': 'de'}": 7.0,
        "orders_total{'shop': 'fr'}": 8.0,
        "carts": float("inf"),
        "shop.carts": -2.0,
        "size{'quantile': '0.5'}": 0.4,
        "size{'quantile': '1.0'}": 2.0,
        "size_sum": 1.5,
        "size_count": 3.0,
    }
    found = stored(appender)
    assert found["queue"].reset_hint is ResetHint.GAUGE
    assert found["idle"].count == 0, "an empty span says that it is native"
    times = {t for s, rows in appender.samples().items() if s.get("shop") == "fr" for t, _ in rows}
    assert times == {NOW_MS - 9}
    told = {m.family: m for m in appender.batches[0].metadata}
    assert (told["orders_total"].help, told["orders_total"].unit) == ("Orders.", "orders")


def test_relabelling_and_limits_hold_for_native_histograms_too(
    shop: Shop, address: str, pipeline: Any, appender: Any
) -> None:
    shop.page += made.family("other", made.HISTOGRAM, made.metric(LATENCY))
    native = "scrape_native_histograms: true"
    rules = (
        "metric_relabel_configs:",
        "  - {source_labels: [__name__], regex: other, action: drop}",
        "  - {target_label: __name__, replacement: renamed}",
    )
    scrape(Scraper(job(address, native, *rules), pipeline), NOW_MS)
    assert list(stored(appender)) == ["renamed"]
    appender.batches.clear()
    scrape(Scraper(job(address, native, "sample_limit: 1"), pipeline), NOW_MS)
    assert stored(appender) == {}


@pytest.mark.parametrize(
    ("extra", "schema", "buckets"),
    [
        ("native_histogram_bucket_limit: 3", 1, 3),
        ("native_histogram_min_bucket_factor: 1.5", 0, 3),
        ("native_histogram_min_bucket_factor: 2", 0, 3),
    ],
)
def test_the_resolution_is_lowered_to_the_jobs_bounds(
    extra: str, schema: int, buckets: int, address: str, pipeline: Any, appender: Any
) -> None:
    scrape(Scraper(job(address, "scrape_native_histograms: true", extra), pipeline), NOW_MS)
    found = stored(appender)["latency_seconds"]
    sides = (found.positive, found.negative)
    assert found.schema == schema
    assert sum(len(side) for side in sides) == buckets
    assert sum(sum(side.counts) for side in sides) == 10.0


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (made.family("a", made.GAUGE, made.metric(made.gauge(1)))[:-1], "cut short"),
        (b"\x02\x08\x08", "no name"),
        (made.family("a", made.GAUGE, b"\xff\xff\xff"), "cannot be read"),
        (made.family("a", made.GAUGE, made.part(1, made.part(1, b"\xff"))), "cannot be read"),
        (made.family("a", made.HISTOGRAM, made.metric(
            made.histogram(1, 1, native=made.native(3, [(0, 2)], [1])))), "spans name 2 buckets"),
        (made.family("a", made.HISTOGRAM, made.metric(
            made.histogram(1, 1, native=made.native(99, [(0, 1)], [1])))), "schema 99"),
        (made.family("a", made.GAUGE, made.labels({"x": "1"}) * 2), "stands twice"),
        (made.family("a", made.GAUGE, made.labels({"": "1"})), "a label of a has no name"),
        (made.family("a", made.COUNTER, made.metric(
            made.counter(1, made.exemplar({"": "1"}, 1)))), "a label of a has no name"),
        (made.family("a", made.COUNTER, made.metric(
            made.counter(1, made.exemplar({"x": "1"}, 1, 1 << 62)))), "no time that can be"),
    ],
)  # fmt: skip
def test_a_page_that_cannot_be_read_is_down_and_says_why(
    page: bytes, says: str, shop: Shop, address: str, pipeline: Any, appender: Any
) -> None:
    shop.page = page
    scraper = Scraper(job(address, "scrape_native_histograms: true"), pipeline)
    scrape(scraper, NOW_MS)
    (target,) = scraper.targets_status()["activeTargets"]
    assert target["health"] == "down"
    assert says in target["lastError"]
    assert shown(appender) == {}


def test_a_page_of_many_tiny_messages_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collector.scrape.protobuf_format.MAX_SAMPLES", 1_000)
    parser = ProtobufParser(dict, HistogramChoice(native=True))
    with pytest.raises(LimitExceeded):
        parser.parse(made.family("a", made.COUNTER, *[b""] * 1_001), Page())
    with pytest.raises(LimitExceeded):
        parser.parse(made.family("a", made.COUNTER, *[b""] * 600) * 2, Page())
    huge = made.family("a", made.HISTOGRAM, made.part(7, made.part(3, b"") * 600_000))
    with pytest.raises(LimitExceeded):
        parser.parse(huge, Page())


def test_a_content_type_names_the_format_and_the_fallback_helps_where_it_does_not() -> None:
    assert protocol_of(made.CONTENT_TYPE, Protocol.TEXT_0) is Protocol.PROTO
    assert (
        protocol_of("text/plain; version=0.0.4; charset=utf-8", Protocol.PROTO) is Protocol.TEXT_0
    )
    assert protocol_of("application/openmetrics-text", Protocol.TEXT_0).is_openmetrics
    assert protocol_of("application/octet-stream", Protocol.PROTO) is Protocol.PROTO
    assert protocol_of("", Protocol.OPENMETRICS_1) is Protocol.OPENMETRICS_1
    with pytest.raises(BadInput, match="not io"):
        protocol_of("application/vnd.google.protobuf; encoding=text", Protocol.TEXT_0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("scrape_protocols: [Telepathy]", "Telepathy"),
        ("scrape_protocols: []", "at least one"),
        ("fallback_scrape_protocol: none", "none"),
        ("metric_name_validation_scheme: dots", "utf8 or legacy"),
        ("native_histogram_min_bucket_factor: -1", "a number from"),
        ("native_histogram_min_bucket_factor: nan", "a number from"),
    ],
)
def test_a_mistake_names_its_line(line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        job("127.0.0.1:1", line)
    assert "line 4" in str(caught.value) or ":4" in str(caught.value)


whole = made.family("a", made.HISTOGRAM, made.metric(LATENCY, {"x": "y"})) + made.family(
    "b", made.SUMMARY, made.metric(made.summary(1, 2.0, {0.5: 1.0}))
)


@given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=6))
def test_any_bytes_are_a_page_or_refused(changes: list[tuple[int, int]]) -> None:
    body = bytearray(whole)
    for place, byte in changes:
        body[place] = byte
    parser = ProtobufParser(lambda labels: Labels(labels.items()), HistogramChoice(native=True))
    page: Page[Labels] = Page()
    with contextlib.suppress(BadInput, LimitExceeded):
        parser.parse(bytes(body), page)
    assert len(page.series) == len(page.values) == len(page.ts_ms)
