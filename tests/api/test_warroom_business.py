"""Orders, funnel and abandonment from events that were really posted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.warroom.traces import request, span
from tests.warroom.world import NOW_MS, World

OWN = "/api/warroom/v1/business"
MINUTE_MS = 60_000
KPI = {
    "kpi",
    "at",
    "value",
    "unit",
    "expected",
    "low",
    "high",
    "breached",
    "severity",
    "reason",
    "provisional",
    "revenue_at_risk",
    "currency",
}


def rfc3339(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1_000, UTC).isoformat()


def checkout(number: int, start_ms: int, *steps: str, **data: Any) -> list[dict[str, Any]]:
    """The events of one checkout, twenty seconds apart."""
    return [
        {
            "specversion": "1.0",
            "id": f"{number}-{step}",
            "source": "shop",
            "type": step,
            "time": rfc3339(start_ms + place * 20_000),
            "data": {
                "session_id": f"s{number}",
                "checkout_id": f"c{number}",
                **(
                    {"transaction_id": f"o{number}", "value": "19.90", "currency": "EUR"}
                    if step == "purchase"
                    else {}
                ),
                **data,
            },
        }
        for place, step in enumerate(steps)
    ]


def post(world: World, events: list[dict[str, Any]]) -> None:
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    answer = world.ask("POST", "/events", json=events, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.json()["rejected"] == []


def trade(world: World) -> None:
    """Four checkouts that began 50 minutes ago (three bought), one that began just now."""
    start_ms = NOW_MS - 50 * MINUTE_MS
    events = []
    for number in range(3):
        device = "mobile" if number else "desktop"
        events += checkout(
            number, start_ms, "begin_checkout", "add_payment_info", "purchase", device=device
        )
    events += checkout(3, start_ms, "begin_checkout", device="mobile")
    events += checkout(4, NOW_MS - 30_000, "begin_checkout", device="mobile")
    post(world, events)


def test_orders_are_counted_and_summed_exactly(world: World) -> None:
    trade(world)
    answer = world.get("/business/orders", step=300)
    assert set(answer) >= {"step_seconds", "points", "revenue_at_risk"}
    assert answer["step_seconds"] == 300
    assert len(answer["points"]) == 12
    fields = {"at", "orders", "revenue", "expected_orders", "low", "high"}
    assert all(set(point) == fields for point in answer["points"])
    sold = [point for point in answer["points"] if point["orders"]]
    assert [(p["orders"], p["revenue"]) for p in sold] == [(3, "59.70")]
    assert sold[0]["at"] == "2026-09-21T13:23:20.000Z"
    assert sold[0]["expected_orders"] is None  # without history nothing can be expected


def test_orders_by_the_stores_own_days(world: World) -> None:
    trade(world)
    answer = world.get("/business/orders", **{"from": "now-26h", "step": "day"})
    assert answer["step_seconds"] == 86_400
    days = [(point["at"], point["orders"], point["revenue"]) for point in answer["points"]]
    assert days == [
        ("2026-09-20T00:00:00.000Z", 0, "0.00"),
        ("2026-09-21T00:00:00.000Z", 3, "59.70"),
    ]
    refused = world.ask("GET", f"{OWN}/business/orders", params={"step": "week"})
    assert refused.status_code in (400, 404)


def test_a_retry_with_a_fresh_event_id_is_no_second_order(world: World) -> None:
    trade(world)
    retried = checkout(0, NOW_MS - 50 * MINUTE_MS, "purchase")[0]
    post(world, [retried | {"id": "fresh"}])
    points = world.get("/business/orders")["points"]
    assert sum(point["orders"] for point in points) == 3


def test_what_is_at_risk_is_money_in_text_with_its_currency(world: World) -> None:
    history = []
    for number in range(2 * 7 * 24 * 4):  # an order a quarter of an hour, two weeks long
        at_ms = NOW_MS - (number + 5) * 15 * MINUTE_MS
        history += checkout(number, at_ms, "purchase")
    for place in range(0, len(history), 500):
        post(world, history[place : place + 500])
    world.evaluate()
    world.evaluate()
    answer = world.get("/business/orders", **{"from": "now-2h", "step": "900"})
    risk = answer["revenue_at_risk"]
    assert set(risk) >= {"amount", "currency", "low", "high"}
    assert risk["currency"] == "EUR"
    assert 0 <= float(risk["low"]) <= float(risk["amount"]) <= float(risk["high"])
    assert all(isinstance(risk[name], str) for name in ("amount", "low", "high"))
    assert all(p["low"] <= p["expected_orders"] <= p["high"] for p in answer["points"])


def test_an_event_sent_twice_counts_once(world: World) -> None:
    trade(world)
    trade(world)
    points = world.get("/business/orders")["points"]
    assert sum(point["orders"] for point in points) == 3


def test_the_funnel_narrows(world: World) -> None:
    trade(world)
    steps = world.get("/business/funnel")["steps"]
    fields = {"name", "sessions", "conversion_from_previous", "median_seconds_from_previous"}
    assert all(set(step) == fields for step in steps)
    assert [(step["name"], step["sessions"]) for step in steps] == [
        ("begin_checkout", 5),
        ("add_payment_info", 3),
        ("purchase", 3),
    ]
    assert steps[0]["conversion_from_previous"] is None
    assert steps[1]["conversion_from_previous"] == 0.6
    assert steps[2]["median_seconds_from_previous"] == 20.0


def test_the_funnel_of_a_segment(world: World) -> None:
    trade(world)
    steps = world.get("/business/funnel", segment="device:desktop")["steps"]
    assert [step["sessions"] for step in steps] == [1, 1, 1]


def test_abandonment_waits_until_a_cohort_has_matured(world: World) -> None:
    trade(world)
    answer = world.get("/business/abandonment", step=1800)
    assert set(answer) == {"matured_until", "timeout_seconds", "series"}
    assert answer["timeout_seconds"] == 1_800
    assert answer["matured_until"] == "2026-09-21T13:43:20.000Z"
    (series,) = answer["series"]
    assert series["labels"] == {}
    fields = {"at", "started", "completed", "abandoned", "rate", "low", "high", "provisional"}
    assert all(set(point) == fields for point in series["points"])
    mature, young = series["points"]
    assert (mature["started"], mature["completed"], mature["abandoned"]) == (4, 3, 1)
    assert mature["rate"] == 0.25
    assert mature["low"] < 0.25 < mature["high"]
    assert mature["provisional"] is False
    assert (young["started"], young["abandoned"], young["provisional"]) == (1, 0, True)


def test_abandonment_is_split_by_device(world: World) -> None:
    trade(world)
    series = world.get("/business/abandonment", step=3600, by="device")["series"]
    started = {s["labels"]["device"]: s["points"][0]["started"] for s in series}
    assert started == {"desktop": 1, "mobile": 4}


def request_of(session: str, at_ms: int, took_ms: int, status: int) -> dict[str, Any]:
    """A trace of one server span that names its visitor's session."""
    told = {"http.request.method": "POST", "http.route": "pay/", "session.id": session}
    root = span(
        uuid4().hex[:16],
        "POST pay/",
        (at_ms, at_ms + took_ms),
        kind=2,
        attributes={**told, "http.response.status_code": status},
    )
    return request([root | {"traceId": uuid4().hex}])


def test_abandonment_is_split_by_what_the_visitor_met(world: World) -> None:
    start_ms = NOW_MS - 50 * MINUTE_MS
    post(world, checkout(0, start_ms, "begin_checkout", "add_payment_info", "purchase"))
    post(world, checkout(1, start_ms, "begin_checkout", "add_payment_info", "payment_failed"))
    for number in range(2, 6):
        post(world, checkout(number, start_ms, "begin_checkout"))
    out = checkout(3, start_ms + 30_000, "out_of_stock")
    del out[0]["data"]["checkout_id"]  # the article page knows the session only
    post(world, out)
    world.ask("POST", "/v1/traces", json=request_of("s4", start_ms + 40_000, 300, 503))
    world.ask("POST", "/v1/traces", json=request_of("s5", start_ms + 40_000, 2_400, 200))
    world.ask("POST", "/v1/traces", json=request_of("s2", start_ms + 40_000, 1_900, 404))
    answer = world.get("/business/abandonment", **{"from": "now-1h", "step": 3600, "by": "cause"})
    found = {s["labels"]["cause"]: s["points"][0] for s in answer["series"]}
    abandoned = {cause: point["abandoned"] for cause, point in found.items()}
    assert abandoned == {"payment": 1, "stock": 1, "error": 1, "slow_page": 1, "none_seen": 1}
    assert {(p["started"], p["completed"]) for p in found.values()} == {(6, 1)}


def test_searches_that_lead_nowhere_are_counted(world: World) -> None:
    start_ms = NOW_MS - 50 * MINUTE_MS
    post(world, checkout(0, start_ms, "search", "view_search_results", "select_item"))
    post(world, checkout(1, start_ms, "search", "search"))
    answer = world.get("/business/search-abandonment", **{"from": "now-1h", "step": 3600})
    point = answer["series"][0]["points"][0]
    assert (point["started"], point["completed"], point["abandoned"]) == (2, 1, 1)
    world.evaluate()
    kpis = {kpi["kpi"]: kpi for kpi in world.get("/business/kpis")["kpis"]}
    assert kpis["search_abandonment"]["value"] == 0.5


def test_a_split_that_is_not_known_is_refused_with_those_that_are(world: World) -> None:
    error = world.refusal("GET", f"{OWN}/abandonment?by=colour", 400)
    assert "cause" in error["hint"]
    assert world.refusal("GET", f"{OWN}/search-abandonment?by=cause", 400)["code"] == "bad_input"


def test_the_pace_of_the_day_tells_what_was_sold_and_where_it_ends(world: World) -> None:
    trade(world)
    world.evaluate()
    pace = world.get("/business/pace")
    assert (pace["day"], pace["currency"]) == ("2026-09-21", "EUR")
    assert pace["so_far"] == {"orders": 3, "revenue": "59.70"}
    assert pace["forecast"] is None  # three orders are no history
    assert pace["last_week"] is None


def test_figures_say_what_is_not_known(world: World) -> None:
    world.evaluate()
    kpis = {kpi["kpi"]: kpi for kpi in world.get("/business/kpis")["kpis"]}
    for kpi in kpis.values():
        assert set(kpi) >= KPI
        assert kpi["breached"] is False
    for name in ("order_rate", "checkout_abandonment", "payment_success"):
        assert kpis[name]["value"] is None
        assert kpis[name]["reason"]


@pytest.mark.parametrize(
    ("route", "parameters"),
    [
        ("orders", {"step": "0"}),
        ("orders", {"step": "nan"}),
        ("orders", {"step": "0.001"}),
        ("orders", {"from": "now", "to": "now-1h"}),
        ("orders", {"from": "now-5y"}),
        ("orders", {"from": "now-300d", "step": "1"}),
        ("orders", {"from": "soon"}),
        ("orders", {"to": "inf"}),
        ("funnel", {"segment": "device"}),
        ("funnel", {"segment": "colour:red"}),
        ("funnel", {"from": "now-5y"}),
        ("funnel", {"from": "now", "to": "now-1h"}),
        ("abandonment", {"by": "colour"}),
        ("abandonment", {"from": "now-5y"}),
        ("abandonment", {"step": "-1"}),
    ],
    ids=str,
)
def test_a_range_that_makes_no_sense_is_refused(
    still_world: World, route: str, parameters: dict[str, str]
) -> None:
    error = still_world.refusal("GET", f"{OWN}/{route}", 400, params=parameters)
    assert error["code"] == "bad_input"
