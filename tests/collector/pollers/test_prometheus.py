"""The Prometheus poller against a real Prometheus, and against answers that are odd."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from collector.pipeline import Pipeline
from collector.scrape.config import parse_scrape_configs
from collector.scrape.scraper import Scraper
from store.documents import parse_document
from store.errors import ConfigError
from tests.collector.conftest import RecordingAppender, Serve
from tests.collector.pollers.asking import targets_of
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import Server
from tests.e2e.service import free_port, needs


class PrometheusServer(Server):
    """One real Prometheus that scrapes itself every second."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, free_port())
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "prometheus.yml"
        file.write_text(
            "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: itself\n"
            f"    static_configs: [{{targets: ['{self.address}']}}]\n"
        )
        self.launch(
            [
                needs("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={self.address}",
            ]
        )
        self.wait_for(self._scraped)

    def _scraped(self) -> bool:
        # Before it is ready it answers in plain text.
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = httpx.get(
                f"http://{self.address}/api/v1/query", params={"query": "up"}, timeout=5
            ).json()
            return bool(answer.get("data", {}).get("result"))
        return False


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    yield server
    server.stop()


def test_queries_and_selectors_bring_series_of_a_real_prometheus(
    ask: Ask, prometheus: PrometheusServer
) -> None:
    asking = ask(
        f"pollers: [{{type: prometheus, name: pmm, url: 'http://{prometheus.address}', queries: "
        "{'jobs:up:sum': 'sum by (job) (up)', 'one': '1'}, match: ['{job=\"itself\"}']}]"
    )
    now = httpx.get(f"http://{prometheus.address}/api/v1/query?query=time()").json()["data"]
    asking.clock.now_ms = int(now["result"][0] * 1000)
    answer = asking.poll(0)
    assert asking.status.error == ""
    assert answer.value("jobs:up:sum", exported_job="itself") == 1
    assert answer.value("one") == 1
    (built,) = answer.values("prometheus_build_info")
    assert built.get("exported_job") == "itself"
    assert built.get("exported_instance") == prometheus.address
    # Its own `up` keeps its labels, the poller's has none of them.
    assert answer.value("up", exported_job="itself") == 1
    assert len(answer.values("up")) == 2


def test_a_query_that_is_wrong_leaves_the_others(ask: Ask, prometheus: PrometheusServer) -> None:
    asking = ask(
        f"pollers: [{{type: prometheus, name: p, url: 'http://{prometheus.address}', queries: "
        "{good: 'vector(3)', bad: 'sum(', matrix: 'up[1m]'}}]"
    )
    answer = asking.poll()
    assert answer.value("good") == 3
    assert not answer.values("bad")
    assert "bad: " in asking.status.error
    assert "matrix: the query gives a matrix" in asking.status.error


def test_federation_of_a_real_prometheus_brings_the_series_a_query_brings(
    ask: Ask, prometheus: PrometheusServer, pipeline: Pipeline, appender: RecordingAppender
) -> None:
    text = (
        "scrape_configs:\n  - job_name: federated\n    honor_labels: true\n"
        "    metrics_path: /federate\n    params: {'match[]': ['{job=\"itself\"}']}\n"
        f"    static_configs: [{{targets: ['{prometheus.address}']}}]\n"
    )
    jobs = parse_scrape_configs(parse_document(text, "warroom.yaml"), ("scrape_configs",))
    scraper = Scraper(jobs, pipeline)
    polled = ask(
        f"pollers: [{{type: prometheus, name: pmm, url: 'http://{prometheus.address}', "
        "match: ['{job=\"itself\"}']}]"
    )
    now = httpx.get(f"http://{prometheus.address}/api/v1/query?query=time()").json()["data"]
    now_ms = polled.clock.now_ms = int(now["result"][0] * 1000)
    (target,) = scraper.targets()
    polled.loop.run(scraper.scrape(target, now_ms))
    polled.loop.run(scraper.aclose())
    federated = {s for s in appender.samples() if s.get("job") == "itself"}
    answer = polled.poll(0)
    asked = {
        s.replace(job=s.get("exported_job"), instance=s.get("exported_instance")).drop(
            ("exported_job", "exported_instance")
        )
        for s in answer.samples
        if s.get("exported_job") == "itself"
    }
    assert len(asked) > 100
    # Federation also brings what has no value (NaN), and what was scraped since.
    assert asked <= federated


ROW = {"metric": {"a": "b"}, "value": [1, "2"]}
ODD: list[Any] = [
    [],
    "text",
    {"status": "success"},
    {"status": "success", "data": {"resultType": "vector", "result": [{"metric": 1}]}},
    {"status": "success", "data": {"resultType": "vector", "result": [{**ROW, "value": [1]}]}},
    {"status": "success", "data": {"resultType": "vector", "result": [None]}},
    {"status": "error", "error": "too many samples"},
]


@pytest.mark.parametrize("body", ODD)
def test_an_odd_answer_is_a_failure_and_never_raises(body: Any, ask: Ask, serve: Serve) -> None:
    async def answer(request: Request) -> Response:
        return JSONResponse(body)

    url = serve([Route("/api/v1/query", answer, methods=["POST"])])
    asking = ask(f"pollers: [{{type: prometheus, name: p, url: '{url}', queries: {{a: up}}}}]")
    assert asking.poll(15_000).value("up") == 0
    assert asking.status.state == "error"
    assert "Traceback" not in asking.status.error


def test_the_token_is_sent_and_redirects_are_not_followed(ask: Ask, serve: Serve) -> None:
    seen: list[str] = []

    async def answer(request: Request) -> Response:
        seen.append(request.headers.get("authorization", ""))
        return RedirectResponse("http://169.254.169.254/latest", 302)

    url = serve([Route("/api/v1/query", answer, methods=["POST"])])
    asking = ask(
        f"pollers: [{{type: prometheus, name: p, url: '{url}', queries: {{a: up}}, "
        "token_env: TOKEN}]",
        {"TOKEN": "t0ken-s3cret"},
    )
    assert asking.poll(15_000).value("up") == 0
    assert seen == ["Bearer t0ken-s3cret"]
    assert "redirects are not followed" in asking.status.remedy


def test_a_server_that_asks_for_patience_gets_it(ask: Ask, serve: Serve) -> None:
    asked = 0

    async def answer(request: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response("slow down", 429, {"Retry-After": "300"})

    url = serve([Route("/api/v1/query", answer, methods=["POST"])])
    asking = ask(f"pollers: [{{type: prometheus, name: p, url: '{url}', queries: {{a: up}}}}]")
    for _ in range(19):
        assert asking.poll(15_000).value("up") == 0
    assert asked == 1
    asking.poll(60_000)
    assert asked == 2


def test_an_endless_answer_is_cut_off(ask: Ask, serve: Serve) -> None:
    async def answer(request: Request) -> Response:
        return Response(b"[" + b" " * (17 * 1024 * 1024))

    url = serve([Route("/api/v1/query", answer, methods=["POST"])])
    asking = ask(f"pollers: [{{type: prometheus, name: p, url: '{url}', queries: {{a: up}}}}]")
    assert asking.poll(15_000).value("up") == 0
    assert "larger than" in asking.status.error


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("url: 'ftp://x', queries: {a: up}", "no address"),
        ("url: 'file:///etc/passwd', queries: {a: up}", "no address"),
        ("url: 'http://169.254.169.254', queries: {a: up}", "link-local"),
        ("url: 'http://[fe80::1]', queries: {a: up}", "link-local"),
        ("url: 'http://u:p@x', queries: {a: up}", "credentials"),
        ("url: 'http://x/?a=b', queries: {a: up}", "a query"),
        ("url: 'http://x'", "1 to 50"),
        ("url: 'http://x', queries: {'a-b': up}", "no metric name"),
        ("url: 'http://x', queries: {a: up}, user: u, token_env: T", "or a token"),
    ],
)
def test_what_may_not_be_asked_is_refused_at_the_start(fields: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        targets_of(f"pollers: [{{type: prometheus, {fields}}}]", {"T": "x"})
