"""The same requests to a real Prometheus: same status, same shape, and the same answers.

`promtool query` is asked of both as well. The real one may be a 2.42; where 3.x answers otherwise
the request says by which rule.
"""

import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from api import errors
from api.routers.prometheus import Source, router
from store.promql.engine import Engine
from tests.api.memory_shop import MemoryShop
from tests.store.promql.compared_world import END_MS, START_MS, odd_world, world
from tests.store.promql.real_prometheus import Reply, Server, binary_of, running

START, END = START_MS // 1000, END_MS // 1000
SERIES = [*world(), *odd_world()]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("prometheus")
    flags = ("--web.enable-admin-api", "--enable-feature=exemplar-storage")
    with running(folder, SERIES, *flags) as server:
        yield server


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    shop = MemoryShop.of(SERIES)
    app = FastAPI()
    source = Source(Engine(shop), shop, shop, shop, shop, lambda: END_MS)
    app.include_router(router(source))
    errors.install(app)
    listener = socket.create_server(("127.0.0.1", 0))
    running_server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=running_server.run, args=([listener],), daemon=True)
    thread.start()
    with Server(listener.getsockname()[1]) as server:
        yield server
    running_server.should_exit = True
    thread.join(timeout=30)
    listener.close()


@dataclass(frozen=True, slots=True)
class Case:
    """One request."""

    path: str
    given: tuple[tuple[str, str], ...]
    method: str


def _case(path: str, given: Mapping[str, object], method: str) -> Case:
    pairs = [(name, str(value)) for name, value in given.items() if value is not None]
    return Case(path, tuple(pairs), method)


def _method_of(given: dict[str, object]) -> tuple[str, dict[str, object]]:
    return str(given.get("method", "GET")), {k: v for k, v in given.items() if k != "method"}


def case(path: str, **given: object) -> Case:
    method, rest = _method_of(given)
    return _case(path, rest, method)


def instant(query: str, **given: object) -> Case:
    method, rest = _method_of(given)
    return _case("query", {"query": query, "time": END, **rest}, method)


def ranged(query: str, **given: object) -> Case:
    method, rest = _method_of(given)
    asked = {"query": query, "start": START, "end": END, "step": 60, **rest}
    return _case("query_range", asked, method)


CASES = [
    # Times, durations and their mistakes.
    *(instant("depth", time=text) for text in (
        f"{END}.5", f"{END}.123456", "2023-11-14T22:41:20Z", "2023-11-14T22:41:20.5+01:00",
        "2023-11-14", "1e9", "-1", "0x10", " 1", "1_0", "1e400", "20231114T224120Z",
        "2023-11-14 22:41:20Z", "2023-11-14T22:41:20", "2023-11-14T22:41:20.123456789Z", "x",
    )),
    *(ranged("depth", step=text) for text in (
        "60", "1m", "0.5m", "1m30s", "90.5", "-1", "0", "0s", "-1s", "x", "", "1e3", "NaN", "5ms",
        "1h60m", "Inf", "1s1m", "1d",
    )),
    *(instant("depth", timeout=text) for text in ("1m", "30", "x", "1.5", "-")),
    ranged("depth", start=END, end=START),
    ranged("depth", start=END, end=END),
    ranged("depth", start="x"),
    ranged("depth", end="x"),
    ranged("depth", start=None),
    ranged("depth", end=None),
    ranged("depth", step=None),
    ranged("depth", start=START, end=START + 11_000, step=1),
    ranged("depth", start=START, end=START + 11_001, step=1),
    ranged("1", start=START, end=START + 11_002, step=1),
    # Kinds of results, empty ones among them.
    *(instant(query) for query in (
        "1", "-0", "'text'", "depth", "nothing", "depth[1m]", "nothing[1m]", "vector(1)", "1/0",
        "0/0", "time()", "depth[5m:1m]", "sum(depth)", "absent(nothing)", "NaN", "1e30", "1e-30",
        "0.1 + 0.2", "'a\\u00e9\\n'", "vector(1e21)", "vector(123456789012345680000)",
        "scalar(depth)",
        "sort(level)", "sort_desc(level)", "topk(3, level)", "bottomk(2, level)", "odd",
    )),
    *(ranged(query) for query in (
        "1", "'text'", "depth", "nothing", "depth[1m]", "vector(1)", "1/0", "sum by (host) (depth)",
        "sum(nothing)", "requests_total offset 20m", "depth > 50",
    )),
    ranged("depth", method="POST"),
    instant("sum(depth)", method="POST"),
    case("query", method="POST"),
    case("query"),
    case("query_range"),
    # What the language refuses.
    *(instant(query) for query in (
        "sum(", "depth{", "depth{host=~'('}", "rate(depth)", "depth and 1", "foo(depth)", "",
        "depth[0s]", "1 == 1", "sum(depth, 1)", "{}", "depth{host=}", "depth + on (host) {}", ")",
        "{__name__=~'.*'}", "depth offset", "depth[1m] offset x", "'", "depth @ x", "-'a'",
    )),
    instant("depth / on (route) depth"),
    instant("depth * on (host, route) group_left () seconds_bucket"),
    instant("label_replace(depth, 'host', 'x', 'host', '.*')"),
    instant("label_replace(depth, 'a', 'x', 'host', '(')"),
    instant("count_values('a', depth) + 1", method="POST"),
    # Catalog.
    case("labels"),
    case("labels", **{"match[]": "depth"}),
    case("labels", **{"match[]": "nothing"}),
    case("labels", **{"match[]": "{"}),
    case("labels", start=1, end=2),
    case("labels", start="x"),
    case("labels", start=5, end=2),
    case("labels", method="POST", **{"match[]": "depth"}),
    case("label/host/values"),
    case("label/__name__/values"),
    case("label/nothing/values"),
    case("label/host/values", **{"match[]": "level"}),
    case("label/host/values", **{"match[]": "level{zone=''}"}),
    case("label/host/values", **{"match[]": "x{"}),
    case("label/host/values", start="x"),
    case("series"),
    case("series", **{"match[]": "depth"}),
    case("series", **{"match[]": "nothing"}),
    case("series", **{"match[]": "{__name__=~'d.*', host!='a'}"}),
    case("series", **{"match[]": "rate(depth[1m])"}),
    case("series", **{"match[]": "{}"}),
    case("series", start="x", **{"match[]": "depth"}),
    case("series", end="x", **{"match[]": "depth"}),
    case("series", start=1, end=2, **{"match[]": "depth"}),
    case("series", method="POST", **{"match[]": "depth"}),
    case("metadata"),
    case("metadata", metric="nothing"),
    case("metadata", limit=0),
    case("metadata", limit="x"),
    case("query_exemplars", query="depth", start=START, end=END),
    case("query_exemplars", query="1", start=START, end=END),
    case("query_exemplars", query="(", start=START, end=END),
    case("query_exemplars", query="depth", start=END, end=START),
    case("query_exemplars", query="depth", start="x", end=END),
    case("format_query", query="sum  by(host)(depth)>bool   1"),
    case("format_query", query="("),
    case("format_query", query=""),
    case("format_query", method="POST", query="depth"),
    # What has nothing to show yet.
    case("rules"),
    case("rules", type="alert"),
    case("rules", type="x"),
    case("alerts"),
    case("targets"),
    case("targets", state="active"),
    case("targets", state="dropped"),
    case("rules/test/test"),
    case("nothing/here"),
    case("admin/tsdb/delete_series", method="POST"),
    case("admin/tsdb/delete_series", method="POST", **{"match[]": "{"}),
    case("admin/tsdb/delete_series", method="POST", **{"match[]": "nothing_at_all"}),
]  # fmt: skip


def plain(value: Any) -> Any:
    """Numbers as numbers; order kept, as Prometheus's is part of the answer."""
    match value:
        case dict():
            return {name: plain(one) for name, one in value.items()}
        case list():
            return [plain(one) for one in value]
        case str() if NUMBER.fullmatch(value):
            return float(value)
        case _:
            return value


def in_order(body: Any, one: Case) -> Any:
    """An instant vector has an order only where the query gives it one."""
    query = dict(one.given).get("query", "")
    data = body["data"]
    if one.path == "query" and data["resultType"] == "vector" and not ORDERED.match(query):
        data["result"].sort(key=lambda row: sorted(row["metric"].items()))
    return body


ORDERED = re.compile("sort|topk|bottomk")
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


def ask(server: Server, one: Case) -> Reply:
    return (server.post if one.method == "POST" else server.get)(one.path, one.given)


@pytest.mark.parametrize(
    "one", dict.fromkeys(CASES), ids=lambda one: f"{one.method} {one.path} {dict(one.given)}"
)
def test_a_request_is_answered_as_by_prometheus(ours: Server, theirs: Server, one: Case) -> None:
    mine, right = ask(ours, one), ask(theirs, one)
    assert mine.status == right.status, (mine.body[:300], right.body[:300])
    if right.json is None or mine.json is None:
        assert mine.body[:200] == right.body[:200]
        return
    assert mine.json["status"] == right.json["status"]
    if right.json["status"] == "error":
        assert mine.json.keys() == right.json.keys()
        assert mine.json["errorType"] == right.json["errorType"], (mine.json, right.json)
        return
    assert in_order(plain(mine.json), one) == in_order(plain(right.json), one)


# -- the same command asks both ------------------------------------------------

PROMTOOL = (
    ("instant", "--time={end}", "{url}", "sort(level)"),
    ("instant", "--time={end}", "{url}", "sum by (host) (rate(requests_total[2m]))"),
    ("instant", "--time={end}", "{url}", "depth[1m]"),
    ("instant", "--time={end}", "{url}", "1 + 1"),
    ("instant", "--time={end}", "{url}", "sum("),
    ("instant", "-o", "json", "--time={end}", "{url}", "sort_desc(level)"),
    ("range", "--start={start}", "--end={end}", "--step=1m", "{url}", "depth"),
    ("range", "--start={start}", "--end={end}", "{url}", "sum by (route) (depth)"),
    ("range", "--start={start}", "--end={end}", "--step=1s", "{url}", "depth[1m]"),
    ("series", "--match=depth", "{url}"),
    ("series", "--match=depth", "--match=level", "--start={start}", "--end={end}", "{url}"),
    ("series", "{url}"),
    ("labels", "{url}", "host"),
    ("labels", "--start={start}", "--end={end}", "{url}", "__name__"),
    ("labels", "{url}", "nothing"),
)


@pytest.mark.parametrize("arguments", PROMTOOL, ids=" ".join)
def test_promtool_prints_the_same(ours: Server, theirs: Server, arguments: tuple[str, ...]) -> None:
    mine, right = (promtool(server, arguments) for server in (ours, theirs))
    assert mine == right


def promtool(server: Server, arguments: tuple[str, ...]) -> tuple[int, list[str], str]:
    """Exit code, lines (series of one answer in any order but for sorted ones), errors."""
    given = [one.format(url=server.url, start=START, end=END) for one in arguments]
    done = subprocess.run(
        [binary_of("promtool"), "query", *given],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = done.stdout.replace(server.url, "URL").splitlines()
    ordered = "sort" in arguments[-1] or "[" in arguments[-1]
    return done.returncode, lines if ordered else sorted(lines), done.stderr.replace(server.url, "")
