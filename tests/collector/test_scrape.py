"""Scraping a real HTTP server: samples, reports, staleness, limits, relabelling."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from collector.pipeline import Pipeline
from collector.scrape.config import ScrapeConfig, parse_scrape_configs
from collector.scrape.scraper import Scraper
from collector.scrape.target import targets_of
from collector.source_health import SourceState
from store.backends.duckdb import StoreLimits
from store.documents import parse_document
from store.errors import ConfigError
from store.model import STALE_NAN_BITS, Labels, Matcher, MatchOp
from store.testing import open_store

NOW_MS = 1_790_000_000_000


class Shop:
    """A metrics page that tests change, and the last request it saw."""

    def __init__(self) -> None:
        self.page = 'hits_total{backend="redis"} 5\nmisses_total 2\n'
        self.status = 200
        self.content_type = "text/plain; version=0.0.4"
        self.delay_s = 0.0
        self.request: Request | None = None

    async def metrics(self, request: Request) -> Response:
        self.request = request
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return Response(self.page, self.status, {"content-type": self.content_type})

    async def moved(self, _: Request) -> Response:
        return RedirectResponse("/metrics")


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def address(shop: Shop, serve: Any) -> str:
    routes = [Route("/metrics", shop.metrics), Route("/moved", shop.moved)]
    return str(serve(routes)).removeprefix("http://")


def job(address: str, extra: str = "") -> tuple[ScrapeConfig, ...]:
    text = (
        "scrape_configs:\n  - job_name: shop\n    scrape_interval: 2s\n"
        f"    static_configs:\n      - targets: ['{address}']\n"
    )
    return parse_scrape_configs(parse_document(text + extra, "warroom.yaml"), ("scrape_configs",))


def scrape(scraper: Scraper, *instants: int) -> None:
    async def run() -> None:
        for now_ms in instants:
            for target in scraper.targets():
                await scraper.scrape(target, now_ms)
        await scraper.aclose()

    asyncio.run(run())


def values(appender: Any, name: str) -> list[float]:
    return [v for s, rows in appender.samples().items() if s.metric == name for _, v in rows]


def stored(store: Any, name: str) -> list[float]:
    found = store.select((Matcher("__name__", MatchOp.EQUAL, name),), NOW_MS, NOW_MS + 60_000)
    return [float(value) for value in found.values]


def is_stale(value: float) -> bool:
    return int(np.array([value]).view(np.uint64)[0]) == STALE_NAN_BITS


def test_a_scrape_stores_samples_and_its_own_report(
    address: str, pipeline: Any, appender: Any, sources: Any
) -> None:
    scraper = Scraper(job(address), pipeline)
    scrape(scraper, NOW_MS)
    target = {"job": "shop", "instance": address}
    found = appender.samples()
    series = Labels.of(target, __name__="hits_total", backend="redis")
    assert found[series] == [(NOW_MS, 5.0)]
    assert found[Labels.of(target, __name__="up")] == [(NOW_MS, 1.0)]
    assert values(appender, "scrape_samples_scraped") == [2.0]
    assert values(appender, "scrape_samples_post_metric_relabeling") == [2.0]
    assert values(appender, "scrape_series_added") == [2.0]
    assert 0 < values(appender, "scrape_duration_seconds")[0] < 10
    (active,) = scraper.targets_status()["activeTargets"]
    assert (active["health"], active["scrapeUrl"]) == ("up", f"http://{address}/metrics")
    assert active["lastScrape"] == "2026-09-21T14:13:20.000Z"
    (status,) = sources.list(NOW_MS)
    assert (status.name, status.kind) == (f"scrape:shop/{address}", "scrape")


@pytest.mark.parametrize("page", ['b{""="x"} 1\n', 'b 1 # {""="x"} 1\n'])
def test_a_label_without_a_name_fails_the_page(
    page: str, address: str, shop: Shop, pipeline: Any, appender: Any
) -> None:
    shop.page = page
    scraper = Scraper(job(address), pipeline)
    scrape(scraper, NOW_MS)
    assert values(appender, "up") == [0.0]
    (active,) = scraper.targets_status()["activeTargets"]
    assert active["health"] == "down"
    assert "line 1: a label has no name" in active["lastError"]


def test_relabelling_to_a_label_without_a_name_fails_the_page(
    address: str, pipeline: Any, appender: Any
) -> None:
    rule = "{action: labelmap, regex: 'back(x?).*', replacement: $1}"
    scraper = Scraper(job(address, f"    metric_relabel_configs: [{rule}]\n"), pipeline)
    scrape(scraper, NOW_MS)
    assert values(appender, "up") == [0.0]
    (active,) = scraper.targets_status()["activeTargets"]
    assert "without a name" in active["lastError"]


def test_a_target_with_a_label_without_a_name_is_none(address: str) -> None:
    rule = "{action: labelmap, regex: '__address_(x?)_', replacement: $1}"
    configs = job(address, f"    relabel_configs: [{rule}]\n")
    targets, _, errors = targets_of(configs[0], configs[0].static)
    assert targets == []
    assert "without a name" in errors[0]


def test_a_page_that_the_store_refuses_is_down_and_says_why(
    address: str, shop: Shop, clock: Any, sources: Any, registry: Any
) -> None:
    with open_store(StoreLimits(max_label_value_bytes=64)) as store:
        pipeline = Pipeline(store, (), sources, now_ms=clock, registry=registry)
        scraper = Scraper(job(address), pipeline)
        scrape(scraper, NOW_MS)
        shop.page = f'hits_total{{backend="{"x" * 65}"}} 5\n'
        scrape(scraper, NOW_MS + 2_000)
        assert stored(store, "up") == [1.0, 0.0]
        hits = stored(store, "hits_total")
        assert (hits[0], is_stale(hits[1])) == (5.0, True)
        (active,) = scraper.targets_status()["activeTargets"]
        assert active["health"] == "down"
        assert "65 bytes long" in active["lastError"]
        shop.page = "misses_total 3\n"
        scrape(scraper, NOW_MS + 4_000)
        assert stored(store, "up") == [1.0, 0.0, 1.0]


def test_a_series_that_vanishes_gets_one_staleness_marker(
    address: str, shop: Shop, pipeline: Any, appender: Any
) -> None:
    scraper = Scraper(job(address), pipeline)
    scrape(scraper, NOW_MS)
    shop.page = "misses_total 3\n"
    scrape(scraper, NOW_MS + 2000, NOW_MS + 4000)
    hits = values(appender, "hits_total")
    assert hits[0] == 5
    assert [is_stale(value) for value in hits[1:]] == [True]
    assert values(appender, "scrape_series_added") == [2, 0, 0]


@pytest.mark.parametrize(
    ("page", "status", "extra", "says"),
    [
        ("x 1\n", 500, "", "HTTP status 500"),
        ("<html>", 200, "", "line 1"),
        ("ok 1\nbad one\n", 200, "", "line 2"),
        ("a 1\nb 2\n", 200, "    sample_limit: 1\n", "sample_limit is 1"),
        ("a{x='1'} 1\n", 200, "", "line 1"),
        ('a{x="1",y="2"} 1\n', 200, "    label_limit: 4\n", "label_limit is 4"),
        (f'a{{x="{"1" * 40}"}} 1\n', 200, "    label_value_length_limit: 30\n", "label_value_le"),
        ('a{abcdefghij="1"} 1\n', 200, "    label_name_length_limit: 9\n", "label_name_length"),
        ("a 1\n" * 1000, 200, "    body_size_limit: 1KB\n", "larger than 1024 bytes"),
    ],
)
def test_a_failed_scrape_is_down_and_everything_it_had_is_stale(
    address: str,
    shop: Shop,
    pipeline: Any,
    appender: Any,
    sources: Any,
    page: str,
    status: int,
    extra: str,
    says: str,
) -> None:
    shop.page = "fine 1\n"
    scraper = Scraper(job(address, extra), pipeline)
    scrape(scraper, NOW_MS)
    shop.page, shop.status = page, status
    scrape(scraper, NOW_MS + 2000)
    assert values(appender, "up") == [1, 0]
    assert is_stale(values(appender, "fine")[-1])
    (active,) = scraper.targets_status()["activeTargets"]
    assert active["health"] == "down"
    assert says in active["lastError"]
    (source,) = sources.list(NOW_MS + 2000)
    assert source.state is SourceState.ERROR
    assert says in source.error
    assert address in source.remedy


def test_a_target_that_is_away_or_slow_is_down(
    shop: Shop, address: str, pipeline: Any, appender: Any
) -> None:
    scrape(Scraper(job("127.0.0.1:1"), pipeline), NOW_MS)
    shop.delay_s = 2
    scrape(Scraper(job(address, "    scrape_timeout: 100ms\n"), pipeline), NOW_MS)
    assert values(appender, "up") == [0, 0]


def test_relabelling_changes_drops_and_keeps(
    address: str, shop: Shop, pipeline: Any, appender: Any
) -> None:
    shop.page = 'hits{path="/a",instance="own"} 1\nsecret 2\ngo_x 3\n'
    extra = """
    relabel_configs:
      - {source_labels: [__address__], regex: '(.*):\\d+', target_label: host, replacement: 'h-$1'}
    metric_relabel_configs:
      - {source_labels: [__name__], regex: go_.*, action: drop}
      - {regex: path, action: labeldrop}
      - {source_labels: [__name__], regex: secret, target_label: __name__, replacement: known}
"""
    scrape(Scraper(job(address, extra), pipeline), NOW_MS)
    target = {"job": "shop", "instance": address, "host": "h-127.0.0.1"}
    found = set(appender.samples())
    assert Labels.of(target, __name__="hits", exported_instance="own") in found
    assert Labels.of(target, __name__="known") in found
    assert "go_x" not in {series.metric for series in found}
    assert values(appender, "scrape_samples_scraped") == [3]
    assert values(appender, "scrape_samples_post_metric_relabeling") == [2]


def test_relabelling_that_takes_a_name_away_fails_the_scrape(
    address: str, pipeline: Any, appender: Any
) -> None:
    extra = "    metric_relabel_configs: [{regex: __name__, action: labeldrop}]\n"
    scraper = Scraper(job(address, extra), pipeline)
    scrape(scraper, NOW_MS)
    assert values(appender, "up") == [0]
    assert "without a name" in scraper.targets_status()["activeTargets"][0]["lastError"]


def test_of_several_lines_of_one_series_the_first_counts(
    address: str, shop: Shop, pipeline: Any, appender: Any
) -> None:
    shop.page = "hits 1\nhits 2\nother 3\n"
    scrape(Scraper(job(address), pipeline), NOW_MS)
    assert values(appender, "hits") == [1]
    assert values(appender, "scrape_samples_post_metric_relabeling") == [3]
    assert values(appender, "scrape_series_added") == [2]


@pytest.mark.parametrize(("tracked", "ends"), [("true", [True]), ("false", [])])
def test_a_series_with_its_own_times_goes_stale_only_when_that_is_tracked(
    address: str, shop: Shop, pipeline: Any, appender: Any, tracked: str, ends: list[bool]
) -> None:
    shop.page = f"late 7 {NOW_MS - 1000}\n"
    scraper = Scraper(job(address, f"    track_timestamps_staleness: {tracked}\n"), pipeline)
    scrape(scraper, NOW_MS)
    shop.page = "other 1\n"
    scrape(scraper, NOW_MS + 2000)
    assert [is_stale(value) for value in values(appender, "late")[1:]] == ends


@pytest.mark.parametrize(("enabled", "accepts"), [("true", True), ("false", False)])
def test_compression_is_asked_for_unless_it_is_disabled(
    address: str, shop: Shop, pipeline: Any, enabled: str, accepts: bool
) -> None:
    scrape(Scraper(job(address, f"    enable_compression: {enabled}\n"), pipeline), NOW_MS)
    assert shop.request is not None
    assert ("gzip" in shop.request.headers["accept-encoding"]) is accepts


def test_what_a_broken_page_held_before_the_break_is_counted(
    address: str, shop: Shop, pipeline: Any, appender: Any
) -> None:
    shop.page = "a 1\nb 2\n<html>\n"
    scrape(Scraper(job(address), pipeline), NOW_MS)
    assert values(appender, "up") == [0]
    assert values(appender, "scrape_samples_scraped") == [2]
    assert values(appender, "a") == []


def test_a_target_can_be_dropped_by_relabelling(address: str, pipeline: Any) -> None:
    extra = "    relabel_configs:\n      - {source_labels: [job], regex: shop, action: drop}\n"
    scraper = Scraper(job(address, extra), pipeline)
    assert scraper.targets() == ()
    assert scraper.targets_status()["droppedTargetCounts"] == {"shop": 1}


def test_credentials_parameters_and_redirects_are_honoured(
    address: str, shop: Shop, pipeline: Any, appender: Any
) -> None:
    extra = """
    params: {module: [a, b]}
    authorization: {credentials: s3cret}
"""
    configs = job(address, extra)
    scrape(Scraper(configs, pipeline), NOW_MS)
    assert shop.request is not None
    assert shop.request.headers["authorization"] == "Bearer s3cret"
    assert shop.request.query_params.getlist("module") == ["a", "b"]
    assert "s3cret" not in repr(configs)
    scrape(Scraper(job(address, "    metrics_path: /moved\n"), pipeline), NOW_MS + 1)
    assert values(appender, "up") == [1, 1]


def test_values_of_parameters_are_not_shown_and_are_sent(
    address: str, shop: Shop, pipeline: Any, sources: Any
) -> None:
    shop.status = 500
    extra = (
        "    params: {token: [s3cret, s3cret], b: [s3cret]}\n    metrics_path: /metrics?c=s3cret\n"
    )
    scraper = Scraper(job(address, extra), pipeline)
    scrape(scraper, NOW_MS)
    assert shop.request is not None
    assert shop.request.query_params.getlist("token") == ["s3cret", "s3cret"]
    status = scraper.targets_status()
    (active,) = status["activeTargets"]
    hidden = "c=<secret>&token=<secret>&b=<secret>&token=<secret>"
    assert active["scrapeUrl"] == f"http://{address}/metrics?{hidden}"
    assert active["discoveredLabels"]["__param_b"] == "<secret>"
    (told,) = sources.list(NOW_MS)
    assert "s3cret" not in f"{status} {told}"
    drop = "    relabel_configs: [{source_labels: [job], regex: shop, action: drop}]\n"
    dropped = Scraper(job(address, extra + drop), pipeline).targets_status()
    assert len(dropped["droppedTargets"]) == 1
    assert "s3cret" not in str(dropped)


def test_openmetrics_exemplars_and_own_timestamps(
    address: str, shop: Shop, pipeline: Any, appender: Any
) -> None:
    shop.content_type = "application/openmetrics-text; version=1.0.0"
    shop.page = (
        "# TYPE req histogram\n# HELP req Requests\n"
        'req_bucket{le="1.0"} 3 # {trace_id="ab"} 0.5 1789999999.5\n'
        "late 7 1789999998.25\n# EOF\n"
    )
    scrape(Scraper(job(address), pipeline), NOW_MS)
    (batch,) = appender.batches
    (exemplar,) = batch.exemplars
    assert exemplar.labels == Labels.of(trace_id="ab")
    assert (exemplar.ts_ms, exemplar.value) == (1_789_999_999_500, 0.5)
    assert [m.help for m in batch.metadata if m.family == "req"] == ["Requests"]
    late = [rows for s, rows in appender.samples().items() if s.metric == "late"]
    assert late == [[(1_789_999_998_250, 7.0)]]


@pytest.mark.parametrize("page", ["a 1\n", "a 1\n# EOF\nb 2\n", "a 1\n## EOF\n", ""])
def test_an_openmetrics_page_without_its_end_was_cut_short(
    page: str, shop: Shop, address: str, pipeline: Any, appender: Any
) -> None:
    shop.page, shop.content_type = page, "application/openmetrics-text; version=1.0.0"
    scrape(Scraper(job(address), pipeline), NOW_MS)
    assert values(appender, "up") == [0]
    assert values(appender, "a") == []
    shop.content_type = "text/plain"
    scrape(Scraper(job(address), pipeline), NOW_MS + 1)
    assert values(appender, "up")[-1] == 1


def test_a_page_of_more_lines_than_any_page_has_is_refused(
    shop: Shop, address: str, pipeline: Any, appender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.scrape.text_format.MAX_SAMPLES", 100)
    shop.page = "".join(f"a{number} 1\n" for number in range(101))
    scraper = Scraper(job(address), pipeline)
    scrape(scraper, NOW_MS)
    assert values(appender, "up") == [0]
    assert "100 lines" in scraper.targets_status()["activeTargets"][0]["lastError"]


def test_a_line_that_cannot_be_read_counts_as_none(
    shop: Shop, address: str, pipeline: Any, appender: Any
) -> None:
    scraper = Scraper(job(address), pipeline)
    scrape(scraper, NOW_MS)
    for page in ("misses_total 2\nmisses_total 1_0\n", "other 1 99999999999999999999\n"):
        shop.page = page
        scrape(scraper, NOW_MS + 1)
    assert values(appender, "scrape_samples_scraped") == [2, 1, 0]


def test_a_page_of_the_real_client_library_is_read_whole(
    address: str, shop: Shop, pipeline: Any, appender: Any
) -> None:
    registry = CollectorRegistry()
    counter = Counter("odd", 'He said "hi"\\', ("path",), registry=registry)
    counter.labels('a"b\\c\nd').inc(math.pi)
    shop.page = generate_latest(registry).decode()
    scrape(Scraper(job(address), pipeline), NOW_MS, NOW_MS + 2000)
    found = {
        s.get("path"): rows for s, rows in appender.samples().items() if s.metric == "odd_total"
    }
    assert found == {'a"b\\c\nd': [(NOW_MS, math.pi), (NOW_MS + 2000, math.pi)]}


@pytest.mark.parametrize(
    ("extra", "line", "says"),
    [
        ("    scrap_interval: 1s\n", 6, "scrap_interval"),
        ("    scheme: ftp\n", 6, "http or https"),
        ("    scrape_timeout: 3s\n", 6, "longer than scrape_interval"),
        ("    sample_limit: many\n", 6, "whole number"),
        ("    scrape_timeout: soon\n", 6, "not a valid duration"),
        ("    relabel_configs:\n      - {regex: '(', target_label: a}\n", 7, "regular expression"),
        ("    relabel_configs:\n      - {action: fly}\n", 7, "use one of"),
        ("    relabel_configs:\n      - {action: replace}\n", 7, "needs a target_label"),
        ("  - job_name: shop\n", 6, "stands twice"),
        ("  - metrics_path: /m\n", 6, "needs a job_name"),
    ],
)
def test_a_mistake_in_the_configuration_names_its_line(extra: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job("127.0.0.1:1", extra)
    assert caught.value.line == line
    assert says in str(caught.value)
