"""The Prometheus HTTP API over a store held in memory, as Grafana and promtool ask it."""

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from api import errors
from api.routers import prometheus_json
from api.routers.prometheus import Source, router
from api.routers.prometheus_catalog import unescape
from api.routers.prometheus_json import number_column, seconds
from store.errors import StoreUnavailable
from store.model import Exemplar, Labels, Matcher, MetricMetadata, MetricType
from store.promql.engine import Engine, EngineOptions
from store.promql.testing import MemoryReader, passes

UP = Labels.of(__name__="up", job="shop", instance="a")
DOWN = Labels.of(__name__="up", job="shop", instance="b")
ODD = Labels.of({"__name__": "odd", "http.status": 'say "hi"\n€'})


class Shop(MemoryReader):
    """Samples, and what is known of them."""

    def series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[Labels]:
        found = [one for one in self._series if all(passes(m, one) for m in matchers)]
        return found[: limit or None]

    def label_names(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[str]:
        return sorted({name for one in self.series(matchers, start_ms, end_ms) for name, _ in one})

    def label_values(
        self, name: str, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[str]:
        return sorted({one.get(name) for one in self.series(matchers, start_ms, end_ms)} - {""})

    def metadata(self, family: str | None = None) -> list[MetricMetadata]:
        known = [MetricMetadata("up", MetricType.GAUGE, "Is it up?")]
        return [one for one in known if family in (None, one.family)]

    def exemplars(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[Exemplar]:
        one = Exemplar(UP, Labels.of(trace_id="abc"), 1_500, 0.25)
        return [one] if all(passes(matcher, UP) for matcher in matchers) else []

    def delete_series(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> int:
        gone = self.series(matchers, start_ms, end_ms)
        for labels in gone:
            del self._series[labels]
        return len(gone)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def shop() -> Shop:
    reader = Shop()
    reader.put(UP, np.arange(10) * 1000, np.ones(10))
    reader.put(DOWN, [0, 1000], [0.0, 0.5])
    reader.put(ODD, [0], [math.inf])
    return reader


def app_of(shop: Shop, options: EngineOptions | None = None) -> FastAPI:
    app = FastAPI()
    source = Source(Engine(shop, options), shop, shop, shop, shop, lambda: 4_000)
    app.include_router(router(source))
    errors.install(app)
    return app


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app_of(shop))
    async with httpx.AsyncClient(transport=transport, base_url="http://w/api/v1/") as found:
        yield found


pytestmark = pytest.mark.anyio


async def data_of(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["status"] == "success"
    return body["data"]


async def test_grafana_s_health_query_answers_a_scalar(client: httpx.AsyncClient) -> None:
    data = await data_of(await client.post("query", data={"query": "1+1", "time": "4"}))
    assert data == {"resultType": "scalar", "result": [4, "2"]}


async def test_get_and_post_forms_answer_alike(client: httpx.AsyncClient) -> None:
    given = {"query": "sum by (job) (up)", "time": "1.5"}
    wanted = {"metric": {"job": "shop"}, "value": [1.5, "1.5"]}
    assert (await data_of(await client.get("query", params=given)))["result"] == [wanted]
    assert (await data_of(await client.post("query", data=given)))["result"] == [wanted]


async def test_an_instant_query_without_a_time_asks_for_now(client: httpx.AsyncClient) -> None:
    assert (await data_of(await client.get("query?query=time()")))["result"] == [4, "4"]


async def test_odd_names_and_infinities_survive_json(client: httpx.AsyncClient) -> None:
    data = await data_of(await client.get("query", params={"query": "odd", "time": 0}))
    assert data["result"] == [{"metric": ODD.to_dict(), "value": [0, "+Inf"]}]


async def test_a_range_query_leaves_out_what_is_not_there(client: httpx.AsyncClient) -> None:
    given = {"query": "rate(up[2s]) == 0", "start": "0", "end": "2", "step": "500ms"}
    data = await data_of(await client.post("query_range", data=given))
    assert data["resultType"] == "matrix"
    assert data["result"] == [
        {"metric": {"instance": "a", "job": "shop"}, "values": [[t, "0"] for t in (1, 1.5, 2)]}
    ]


async def test_a_range_selector_answers_its_samples(client: httpx.AsyncClient) -> None:
    given = {"query": 'up{instance="b"}[5s]', "time": "1970-01-01T00:00:02Z"}
    data = await data_of(await client.get("query", params=given))
    assert data["result"] == [{"metric": DOWN.to_dict(), "values": [[0, "0"], [1, "0.5"]]}]


async def test_a_limit_cuts_and_says_so(client: httpx.AsyncClient) -> None:
    body = (await client.get("query", params={"query": "up", "time": 1, "limit": 1})).json()
    assert len(body["data"]["result"]) == 1
    assert body["warnings"] == ["results truncated due to limit"]
    body = (await client.get("query", params={"query": "up", "time": 1, "limit": 0})).json()
    assert len(body["data"]["result"]) == 2
    assert "warnings" not in body


async def test_annotations_and_stats_come_with_the_answer(client: httpx.AsyncClient) -> None:
    given = {"query": "rate(up[5s])", "time": "4", "stats": "all"}
    body = (await client.get("query", params=given)).json()
    assert body["infos"] == [
        "PromQL info: metric might not be a counter, name does not end in "
        '_total/_sum/_count/_bucket: "up" (1:6)'
    ]
    assert body["data"]["stats"]["samples"]["totalQueryableSamples"] > 0


@pytest.mark.parametrize(
    ("path", "given", "status", "kind", "message"),
    [
        (
            "query",
            {"query": "sum("},
            400,
            "bad_data",
            '"query": 1:5: parse error',
        ),
        ("query", {}, 400, "bad_data", "no expression found in input"),
        (
            "query",
            {"query": "1", "time": "x"},
            400,
            "bad_data",
            'parameter "time": Invalid time value',
        ),
        ("query", {"query": "1", "timeout": "x"}, 400, "bad_data", 'parameter "timeout": cannot'),
        ("query", {"query": "1", "limit": "-1"}, 400, "bad_data", "limit must be non-negative"),
        ("query", {"query": "topk(NaN, up)"}, 422, "execution", "Parameter value is NaN"),
        (
            "query",
            {"query": "up + up", "timeout": "0.000000001"},
            503,
            "timeout",
            "query timed out in",
        ),
        ("query_range", {"query": "1"}, 400, "bad_data", 'invalid parameter "start"'),
        (
            "query_range",
            {"query": "1", "start": "1", "end": "0", "step": "1"},
            400,
            "bad_data",
            "end timestamp must not be before start time",
        ),
        (
            "query_range",
            {"query": "1", "start": "0", "end": "1", "step": "0"},
            400,
            "bad_data",
            "zero or negative query resolution step widths are not accepted",
        ),
        (
            "query_range",
            {"query": "1", "start": "0", "end": "11001", "step": "1"},
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries",
        ),
        ("series", {}, 400, "bad_data", "no match[] parameter provided"),
        ("series", {"match[]": "{a=~'.*'}"}, 400, "bad_data", "at least one non-empty matcher"),
        ("query_exemplars", {"query": "("}, 400, "bad_data", "1:2: parse error: unclosed left"),
        ("format_query", {"query": "(("}, 400, "bad_data", 'invalid parameter "query"'),
    ],
)
async def test_an_error_has_prometheus_s_shape(
    client: httpx.AsyncClient,
    path: str,
    given: dict[str, str],
    status: int,
    kind: str,
    message: str,
) -> None:
    response = await client.get(path, params=given)
    assert response.status_code == status
    body = response.json()
    assert body["status"] == "error"
    assert body["errorType"] == kind
    assert message in body["error"]


async def test_a_timeout_is_503_and_too_many_samples_422(shop: Shop) -> None:
    tight = EngineOptions(timeout_s=1e-9)
    for options, status, kind in (
        (tight, 503, "timeout"),
        (EngineOptions(max_samples=1), 422, "execution"),
    ):
        transport = httpx.ASGITransport(app_of(shop, options))
        async with httpx.AsyncClient(transport=transport, base_url="http://w") as client:
            response = await client.get("/api/v1/query?query=sum(up)&time=1")
        assert (response.status_code, response.json()["errorType"]) == (status, kind)


async def test_a_store_that_is_gone_is_503(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_args: Any, **_kwargs: Any) -> list[Labels]:
        raise StoreUnavailable("the store is closed")

    monkeypatch.setattr(shop, "series", closed)
    transport = httpx.ASGITransport(app_of(shop))
    async with httpx.AsyncClient(transport=transport, base_url="http://w") as client:
        response = await client.get("/api/v1/series", params={"match[]": "up"})
    assert (response.status_code, response.json()["errorType"]) == (503, "unavailable")


async def test_series_labels_and_values_are_listed(client: httpx.AsyncClient) -> None:
    series = await data_of(await client.post("series", data={"match[]": ["up", "odd"]}))
    assert series == [ODD.to_dict(), UP.to_dict(), DOWN.to_dict()]
    names = await data_of(await client.get("labels", params={"match[]": "up"}))
    assert names == ["__name__", "instance", "job"]
    assert await data_of(await client.get("label/instance/values")) == ["a", "b"]
    assert await data_of(await client.get("label/U__http_2e_status/values")) == ['say "hi"\n€']
    cut = (await client.get("label/instance/values", params={"limit": 1})).json()
    assert (cut["data"], cut["warnings"]) == (["a"], ["results truncated due to limit"])


def test_escaped_label_names_are_read_back() -> None:
    assert unescape("U__a__b_e9_") == "a_bé"
    assert unescape("job") == "job"
    assert unescape("U___ffffff_") == "\ufffd"


async def test_metadata_and_exemplars_have_prometheus_s_shape(client: httpx.AsyncClient) -> None:
    families = await data_of(await client.get("metadata", params={"metric": "up"}))
    assert families == {"up": [{"type": "gauge", "help": "Is it up?", "unit": ""}]}
    given = {"query": "rate(up[5m]) / up", "start": "0", "end": "9"}
    assert await data_of(await client.get("query_exemplars", params=given)) == [
        {
            "seriesLabels": UP.to_dict(),
            "exemplars": [{"labels": {"trace_id": "abc"}, "value": "0.25", "timestamp": 1.5}],
        }
    ]


async def test_a_query_is_formatted_and_parsed(client: httpx.AsyncClient) -> None:
    given = {"query": "sum  by(job)(up{job=~'a\\\\.b'}[5m:])   >bool 1"}
    refused = await client.get("format_query", params=given)
    assert refused.status_code == 400
    given = {"query": "sum  by(job)(rate(up{job=~'a\\\\.b'}[1001ms]))   >bool 1"}
    text = await data_of(await client.get("format_query", params=given))
    assert text == 'sum by (job) (rate(up{job=~"a\\\\.b"}[1s1ms])) > bool 1'
    tree = await data_of(await client.get("parse_query", params=given))
    assert (tree["type"], tree["op"], tree["lhs"]["grouping"]) == ("binaryExpr", ">", ["job"])


async def test_grafana_s_probes_find_a_prometheus(client: httpx.AsyncClient) -> None:
    build = await data_of(await client.get("status/buildinfo"))
    assert build["version"].startswith("3.")
    assert "features" not in build
    missing = await client.get("rules/test/test")
    assert missing.status_code == 404
    assert "page not found" in missing.text
    assert await data_of(await client.get("rules")) == {"groups": []}
    assert await data_of(await client.get("alerts")) == {"alerts": []}
    assert (await data_of(await client.get("targets")))["activeTargets"] == []
    assert await data_of(await client.get("status/flags")) == {}
    assert await data_of(await client.get("status/config")) == {"yaml": ""}
    tsdb = await data_of(await client.get("status/tsdb"))
    assert tsdb["seriesCountByMetricName"][0] == {"name": "up", "value": 2}


async def test_deleted_series_are_gone(client: httpx.AsyncClient) -> None:
    assert (await client.post("admin/tsdb/delete_series")).status_code == 400
    done = await client.post("admin/tsdb/delete_series", params={"match[]": "up"})
    assert (done.status_code, done.content) == (204, b"")
    assert (await data_of(await client.get("query?query=up&time=1")))["result"] == []


async def test_a_failure_nobody_foresaw_is_still_json(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_kwargs: Any) -> list[Labels]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(shop, "series", broken)
    transport = httpx.ASGITransport(app_of(shop))
    async with httpx.AsyncClient(transport=transport, base_url="http://w") as client:
        response = await client.get("/api/v1/series", params={"match[]": "up"})
    assert (response.status_code, response.json()["errorType"]) == (500, "internal")
    assert "secret" not in response.text


async def test_a_snapshot_needs_something_to_make_it(client: httpx.AsyncClient) -> None:
    response = await client.post("admin/tsdb/snapshot")
    assert (response.status_code, response.json()["errorType"]) == (503, "unavailable")


async def test_a_form_of_many_fields_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("query", content=b"a&" * 20_000)
    assert (response.status_code, response.json()["errorType"]) == (400, "bad_data")


def test_numbers_are_written_as_prometheus_writes_them() -> None:
    values = [1.0, -0.5, 1e16, 123456789.0, 1e21, 1e-7, math.nan, math.inf, -math.inf, 5e-324]
    text = number_column(np.array(values)).to_pylist()
    assert text[:4] == ["1", "-0.5", "10000000000000000", "123456789"]
    assert text[6:9] == ["NaN", "+Inf", "-Inf"]
    assert [float(one) for one in text[4:6] + text[9:]] == [1e21, 1e-7, 5e-324]
    assert [seconds(ms) for ms in (0, 1, 1500, -250, 4000)] == ["0", "0.001", "1.5", "-0.25", "4"]


async def test_a_giant_answer_is_refused(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus_json, "MAX_POINTS", 5)
    given = {"query": "up", "start": "0", "end": "9", "step": "1"}
    for path, parameters in (("query_range", given), ("query", {"query": "up[10s]", "time": "9"})):
        response = await client.get(path, params=parameters)
        assert (response.status_code, response.json()["errorType"]) == (422, "execution")
        assert "points, more than 5" in response.json()["error"]


async def test_rules_and_targets_can_be_narrowed(shop: Shop) -> None:
    groups = [
        {
            "name": name,
            "file": f"{name}.yml",
            "rules": [
                {
                    "name": "Down",
                    "type": "alerting",
                    "alerts": [{"state": "firing"}],
                    "labels": {"team": name},
                },
                {"name": "up:sum", "type": "recording", "labels": {}},
            ],
        }
        for name in ("one", "two")
    ]
    found = {"activeTargets": [{"scrapePool": "a"}, {"scrapePool": "b"}], "droppedTargets": []}
    app = FastAPI()
    source = Source(
        Engine(shop), shop, shop, shop, shop, lambda: 4_000,
        rules=lambda: {"groups": groups}, targets=lambda: found,
    )  # fmt: skip
    app.include_router(router(source))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://w/api/v1/") as client:

        async def names(**given: str) -> list[tuple[str, list[str]]]:
            data = await data_of(await client.get("rules", params=given))
            return [
                (one["name"], [rule["name"] for rule in one["rules"]]) for one in data["groups"]
            ]

        assert await names(type="alert") == [("one", ["Down"]), ("two", ["Down"])]
        assert await names(type="record") == [("one", ["up:sum"]), ("two", ["up:sum"])]
        assert await names(**{"rule_group[]": "two"}) == [("two", ["Down", "up:sum"])]
        assert await names(**{"rule_name[]": "up:sum", "file[]": "one.yml"}) == [
            ("one", ["up:sum"])
        ]
        assert await names(**{"rule_name[]": "nothing"}) == []
        assert await names(**{"match[]": '{team=~"t.*"}'}) == [("two", ["Down"])]
        assert await names(**{"match[]": '{team="one"}', "file[]": "two.yml"}) == []
        first = await data_of(await client.get("rules", params={"group_limit": "1"}))
        assert [one["name"] for one in first["groups"]] == ["one"]
        rest = {"group_limit": "1", "group_next_token": first["groupNextToken"]}
        assert await names(**rest) == [("two", ["Down", "up:sum"])]
        assert "groupNextToken" not in await data_of(await client.get("rules", params=rest))
        for wrong in (
            "group_next_token=x",
            "group_limit=0",
            "group_limit=x",
            "match[]={",
            'match[]={a=""}',
        ):
            assert (await client.get(f"rules?{wrong}")).status_code == 400, wrong
        assert (await client.get("rules?group_limit=1&group_next_token=x")).status_code == 400
        assert (await client.get("rules", params={"exclude_alerts": "x"})).status_code == 400
        bare = await data_of(await client.get("rules", params={"exclude_alerts": "true"}))
        assert all("alerts" not in rule for one in bare["groups"] for rule in one["rules"])
        data = await data_of(await client.get("targets", params={"scrapePool": "b"}))
        assert data["activeTargets"] == [{"scrapePool": "b"}]
        data = await data_of(await client.get("targets", params={"state": "dropped"}))
        assert data["activeTargets"] == []


async def test_metadata_is_limited_by_family_and_within_one(
    client: httpx.AsyncClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [
        MetricMetadata(family, MetricType.GAUGE, text) for family in "ab" for text in ("x", "y")
    ]
    monkeypatch.setattr(shop, "metadata", lambda _family=None: known)
    assert {k: len(v) for k, v in (await data_of(await client.get("metadata"))).items()} == {
        "a": 2,
        "b": 2,
    }
    assert await data_of(await client.get("metadata?limit=0")) == {}
    assert list(await data_of(await client.get("metadata?limit=1"))) == ["a"]
    cut = await data_of(await client.get("metadata?limit_per_metric=1"))
    assert {name: len(entries) for name, entries in cut.items()} == {"a": 1, "b": 1}
    for given in ("limit=x", "limit_per_metric=1.5"):
        response = await client.get(f"metadata?{given}")
        assert response.json()["error"] == f"{given.partition('=')[0]} must be a number"
