"""Every panel kind over the real engine: honest, serialisable, and told in changes that add up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api.boards import Board, Panel, PanelKind, Row
from api.panels.registry import COMPUTE, PATCH
from api.panels.view import PanelSources, View
from api.stream import LiveBoards
from business_metrics.model import KpiReading
from store.errors import StoreUnavailable
from store.model import Labels
from store.promql.engine import Engine
from store.promql.testing import MemoryReader

Json = dict[str, Any]
TICK_MS = 5_000
START_MS = 1_790_000_000_000
RANGE_MS = 900_000
KINDS = get_args(PanelKind)
# No alert, no finding and no event are good news; everything else is missing data.
WITHOUT_DATA = {
    "stat": "no_data",
    "timeseries": "no_data",
    "table": "no_data",
    "golden_signals": "no_data",
    "slo": "no_data",
    "freshness": "no_data",
    "alerts": "ok",
    "findings": "ok",
    "timeline": "ok",
}
FIELDS = {
    "stat": {"value", "unit", "spark", "band", "delta_last_week", "status", "provisional"},
    "timeseries": {"t", "series", "band", "annotations"},
    "table": {"columns", "values", "rows", "total"},
    "slo": {"slos"},
    "golden_signals": {"services"},
    "alerts": {"alerts"},
    "findings": {"findings"},
    "timeline": {"events"},
    "freshness": {"sources"},
}
# A value counts for ten seconds only, so that it can vanish within a test.
QUERY = "last_over_time(traffic[10s])"


def panel(kind: str, **options: Any) -> Panel:
    query = QUERY if kind in {"stat", "timeseries", "table"} else ""
    return Panel.model_validate(
        {"id": kind.replace("_", "-"), "kind": kind, "title": kind, "query": query, **options}
    )


class Shop:
    """What panels look at; its series are written by the tests."""

    def __init__(self) -> None:
        self.reader = MemoryReader()
        self.kpis: list[KpiReading] = []
        self.events: list[Json] = []

    @property
    def sources(self) -> PanelSources:
        return PanelSources(
            querier=Engine(self.reader),
            kpis=lambda: self.kpis,
            slos=list,
            alerts=list,
            findings=list,
            timeline=lambda start, end: [e for e in self.events if start <= e["ms"] <= end],
            sources=lambda _now: [],
        )

    def put(self, at_ms: int, value: float, **labels: str) -> None:
        name = labels.pop("name", "traffic")
        self.reader.put(Labels.of({"__name__": name, **labels}), [at_ms], [value])


def look(shop: Shop, kind: str, now_ms: int = START_MS, **options: Any) -> Json:
    view = View(shop.sources, now_ms, RANGE_MS, TICK_MS)
    return COMPUTE[kind](panel(kind, **options), view, None)


def board_of(kinds: Sequence[str], reach: str = "15m") -> Board:
    return Board(name="b", title="B", range=reach, rows=(Row(panels=tuple(map(panel, kinds))),))


def test_every_kind_that_a_board_may_name_can_be_computed() -> None:
    assert set(COMPUTE) == set(KINDS) == set(WITHOUT_DATA)
    assert set(PATCH) <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_store_is_told_honestly(kind: str) -> None:
    shown = look(Shop(), kind)
    assert shown["state"] == WITHOUT_DATA[kind]
    assert shown["as_of_ms"] == START_MS
    assert set(shown) >= FIELDS[kind]
    assert shown.get("status") in {None, "unknown"}
    assert not shown.get("value")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [1.5, 0.0, float("nan"), float("inf")])
def test_what_is_shown_is_json(kind: str, value: float) -> None:
    shop = Shop()
    for at_ms in (START_MS - 20_000, START_MS - 10_000, START_MS - 1):
        shop.put(at_ms, value)
        shop.put(at_ms, value, name="http_server_request_duration_seconds_count", job="shop")
    json.dumps(look(shop, kind), allow_nan=False)


def fails(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_arguments: object, **_named: object) -> NoReturn:
        raise error

    return fail


class _Closed:
    """A querier whose store is gone."""

    def __init__(self, error: Exception) -> None:
        self.instant = self.range = fails(error)


@pytest.mark.parametrize(
    ("error", "told", "remedy"),
    [
        (StoreUnavailable("the store is closed", hint="restart it"), "store is closed", "restart"),
        (ZeroDivisionError("oh"), "ZeroDivisionError", "log"),
    ],
    ids=["expected", "unexpected"],
)
def test_a_panel_whose_question_fails_says_so(error: Exception, told: str, remedy: str) -> None:
    fail = fails(error)
    broken = replace(
        Shop().sources,
        querier=_Closed(error),
        slos=fail,
        alerts=fail,
        findings=fail,
        timeline=fail,
        sources=fail,
    )

    async def snapshot() -> Json:
        live = LiveBoards(lambda: {"b": board_of(KINDS)}, broken, interval_ms=TICK_MS)
        await live.publish(START_MS)
        return dict(orjson.loads(await live.snapshot("b"))["panels"])

    with capture_logs():  # else every traceback is drawn in colour
        panels = asyncio.run(snapshot())
    assert len(panels) == len(KINDS)
    for shown in panels.values():
        assert shown["state"] == "error"
        assert told in shown["error"]
        assert remedy in shown["remedy"]


def test_lines_that_vanished_are_stale_not_ok() -> None:
    shop = Shop()
    shop.put(START_MS - 1, 7.0)
    assert look(shop, "timeseries", START_MS)["state"] == "ok"
    assert look(shop, "timeseries", START_MS + 55_000)["state"] == "ok"
    late = look(shop, "timeseries", START_MS + 120_000)
    assert late["state"] == "stale"
    assert late["as_of_ms"] == START_MS + 5_000  # the last step with a value
    assert look(shop, "timeseries", START_MS + RANGE_MS + 60_000)["state"] == "no_data"


def test_one_living_line_keeps_a_graph_fresh() -> None:
    shop = Shop()
    shop.put(START_MS - 300_000, 7.0, route="old")
    shop.put(START_MS - 1, 7.0, route="new")
    assert look(shop, "timeseries")["state"] == "ok"


def test_a_graph_turns_stale_and_back_while_its_points_are_extended() -> None:
    shop = Shop()
    view = View(shop.sources, START_MS, RANGE_MS, TICK_MS)
    shown = None
    states = []
    for tick in range(60):
        now_ms = START_MS + tick * TICK_MS
        if tick < 5 or tick >= 40:
            shop.put(now_ms - 1, float(tick))
        shown = COMPUTE["timeseries"](panel("timeseries"), replace(view, now_ms=now_ms), shown)
        states.append(shown["state"])
    assert states[:5] == ["ok"] * 5
    assert states[39] == "stale"
    assert states[40:] == ["ok"] * 20


def test_a_number_that_vanished_is_the_last_one_marked_stale() -> None:
    shop = Shop()
    for age_ms in range(1, 60_000, 5_000):
        shop.put(START_MS - age_ms, 7.0)
    assert look(shop, "stat")["state"] == "ok"
    late = look(shop, "stat", START_MS + 120_000)
    assert (late["state"], late["value"], late["status"]) == ("stale", 7.0, "unknown")
    assert late["as_of_ms"] <= START_MS + 15_000
    assert look(shop, "stat", START_MS + RANGE_MS + 60_000)["state"] == "no_data"


@pytest.mark.parametrize(("age_ms", "state"), [(0, "ok"), (55_000, "ok"), (60_000, "stale")])
def test_a_reading_that_is_not_renewed_becomes_stale(age_ms: int, state: str) -> None:
    shop = Shop()
    shop.kpis = [KpiReading("order_rate", START_MS - age_ms, 60.0, "orders/min")]
    shown = look(shop, "stat", query="", kpi="order_rate")
    assert (shown["state"], shown["value"]) == (state, 60.0)
    assert shown["as_of_ms"] == START_MS - age_ms


def test_a_proven_breach_is_told_by_the_wall_whatever_the_sparkline_lacks() -> None:
    shop = Shop()
    shop.put(START_MS - 200_000, 60.0)
    shop.kpis = [
        KpiReading(
            "order_rate", START_MS, 0.0, "orders/min", expected=60.0, breached=True, severity="page"
        )
    ]
    shown = look(shop, "stat", kpi="order_rate")
    assert (shown["state"], shown["status"], shown["value"]) == ("ok", "crit", 0.0)


def test_why_a_figure_has_no_value_is_told() -> None:
    shop = Shop()
    shop.kpis = [KpiReading("order_rate", START_MS, None, "orders/min", reason="no_history_yet")]
    shown = look(shop, "stat", query="", kpi="order_rate")
    assert (shown["state"], shown["note"]) == ("no_data", "no_history_yet")


def test_zero_is_a_value() -> None:
    shop = Shop()
    shop.put(START_MS - 1, 0.0)
    shown = look(shop, "stat")
    assert (shown["state"], shown["value"]) == ("ok", 0.0)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, "ok"),
        ({"warn_above": 5}, "warn"),
        ({"warn_above": 5, "crit_above": 6}, "crit"),
        ({"crit_below": 8}, "crit"),
        ({"warn_above": 7}, "ok"),
    ],
)
def test_thresholds_of_a_board_give_a_status(options: Json, status: str) -> None:
    shop = Shop()
    shop.put(START_MS - 1, 7.0)
    assert look(shop, "stat", options=options)["status"] == status


def requests(shop: Shop, until_ms: int, *, job: str = "shop", failing: float = 0.0) -> None:
    """Ten requests a second for two minutes, each of 0.3 s."""
    for place in range(13):
        at_ms, count = until_ms - 120_000 + place * 10_000, place * 100.0
        name = "http_server_request_duration_seconds"
        for status, share in (("200", 1 - failing), ("500", failing)):
            labels = {"job": job, "http_response_status_code": status}
            shop.put(at_ms, count * share, name=f"{name}_count", **labels)
            for bound in ("0.1", "0.5", "+Inf"):
                seen = 0.0 if bound == "0.1" else count * share
                shop.put(at_ms, seen, name=f"{name}_bucket", le=bound, **labels)


@pytest.mark.parametrize(
    ("failing", "status"), [(0.0, "ok"), (0.007, "warn"), (0.05, "crit")], ids=str
)
def test_golden_signals_come_from_the_servers_histogram(failing: float, status: str) -> None:
    shop = Shop()
    requests(shop, START_MS, failing=failing)
    (service,) = look(shop, "golden_signals")["services"]
    assert service["service"] == "shop"
    assert service["rate"] == pytest.approx(10.0)
    assert service["error_ratio"] == pytest.approx(failing)
    assert 0.1 < service["p50"] < service["p95"] < service["p99"] <= 0.5
    assert service["status"] == status
    assert len(service["spark"]["t"]) == len(service["spark"]["rate"]) == 61


def test_a_service_that_went_silent_stays_on_the_wall_without_figures() -> None:
    shop = Shop()
    requests(shop, START_MS)
    requests(shop, START_MS + 300_000, job="cart")
    shown = look(shop, "golden_signals", START_MS + 300_000)
    assert shown["state"] == "ok"
    by_name = {service["service"]: service for service in shown["services"]}
    assert by_name["cart"]["status"] == "ok"
    assert (by_name["shop"]["rate"], by_name["shop"]["status"]) == (None, "unknown")
    gone = look(shop, "golden_signals", START_MS + 600_000)
    assert gone["state"] == "stale"
    assert gone["as_of_ms"] < START_MS + 420_000


def merged(held: Json, change: Json, range_ms: int) -> Json:
    """What the front end's `merge.ts` makes of one panel's change."""
    if "append" not in change:
        return change
    append = change["append"]
    assert len(append["values"]) == len(held["series"])
    keep = sum(1 for at_ms in held["t"] if at_ms < append["t"][0])
    times = held["t"][:keep] + append["t"]
    first = sum(1 for at_ms in times if at_ms < times[-1] - range_ms)
    scalars = {name: value for name, value in change.items() if name != "append"}
    series = [
        {**line, "values": (line["values"][:keep] + new)[first:]}
        for line, new in zip(held["series"], append["values"], strict=True)
    ]
    return {**held, **scalars, "t": times[first:], "series": series}


def told(chunk: bytes) -> tuple[str, Json]:
    head, data = chunk.split(b"data: ", 1)
    return head.rsplit(b"event: ", 1)[1].strip().decode(), orjson.loads(data)


def undated(panels: Json) -> Json:
    """Unchanged panels are not sent again, so their instant differs."""
    return {name: {**shown, "as_of_ms": 0} for name, shown in panels.items()}


ticks = st.lists(
    st.fixed_dictionaries(
        {
            "steps": st.sampled_from([1, 1, 1, 1, 2, 20, 100]),
            "values": st.dictionaries(
                st.sampled_from("abc"), st.one_of(st.integers(0, 3), st.just(float("nan")))
            ),
            "late": st.booleans(),
            "deploy": st.integers(0, 9).map(lambda n: n == 0),
        }
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=60, deadline=None)
@given(
    history=ticks, interval_s=st.sampled_from([5, 7]), reach=st.sampled_from(["1m", "61s", "1h"])
)
def test_a_watcher_who_adds_up_the_changes_sees_what_a_new_one_sees(
    history: list[Json], interval_s: int, reach: str
) -> None:
    shop = Shop()
    board = board_of(("timeseries", "stat", "timeline"), reach)
    interval_ms = interval_s * 1_000

    async def watch() -> None:
        live = LiveBoards(lambda: {"b": board}, shop.sources, interval_ms=interval_ms)
        now_ms = START_MS // interval_ms * interval_ms
        await live.publish(now_ms)
        stream = await live.watch("b", None, gzip=False)
        await anext(stream)  # how soon to come back
        event, message = told(await anext(stream))
        assert event == "snapshot"
        held = message["panels"]
        for tick in history:
            now_ms += tick["steps"] * interval_ms
            for route, value in tick["values"].items():
                at_ms = now_ms - 1 - tick["late"] * interval_ms
                shop.put(at_ms, float(value), route=route)
            if tick["deploy"]:
                event_of = {"at": str(now_ms), "ms": now_ms, "kind": "deploy", "title": "v2"}
                shop.events.append(event_of)
            await live.publish(now_ms)
            event, message = told(await anext(stream))
            assert event == "delta"
            for name, change in message["panels"].items():
                held[name] = merged(held[name], change, board.range_ms)
            fresh = orjson.loads(await live.snapshot("b"))["panels"]
            assert undated(held) == undated(fresh)

    asyncio.run(watch())
