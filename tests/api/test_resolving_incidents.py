"""Incidents ended by hand, and the draft of their post-mortem, over the service."""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.warroom.world import World

OWN = "/api/warroom/v1"


def post_alert(world: World, name: str = "Orders", **texts: str) -> dict[str, Any]:
    annotations = {"summary": f"{name} fell | <b>", "cause": "deploy of 1.3", **texts}
    labels = {"alertname": name, "severity": "page", "service": "shop", "slo": "checkout"}
    body = [{"labels": labels, "annotations": annotations}]
    assert world.ask("POST", "/api/v2/alerts", json=body).status_code == 200
    world.evaluate()
    return next(a for a in world.get("/alerts")["alerts"] if a["name"] == name)


def test_an_incident_resolved_by_hand_stays_so_while_its_alert_fires(world: World) -> None:
    alert = post_alert(world)
    identity = alert["incident_id"]
    ended = world.post(f"/incidents/{identity}/resolve", {"by": "ann"})
    assert ended["state"] == "resolved"
    assert ended["timeline"][-1]["title"] == "resolved by ann"
    for _ in range(3):
        world.evaluate()
    assert [i["id"] for i in world.get("/incidents")["incidents"]] == [identity]
    again = world.post(f"/incidents/{identity}/resolve", {"by": "bob"})
    assert again["timeline"] == ended["timeline"]


def test_an_alert_that_ends_and_begins_again_opens_a_new_incident(world: World) -> None:
    identity = post_alert(world)["incident_id"]
    world.post(f"/incidents/{identity}/resolve", {})
    world.evaluate(400_000)  # past resolve_timeout
    assert post_alert(world)["incident_id"] != identity
    assert len(world.get("/incidents")["incidents"]) == 2


def test_a_new_alert_after_it_opens_a_new_incident(world: World) -> None:
    identity = post_alert(world)["incident_id"]
    world.post(f"/incidents/{identity}/resolve", {})
    assert post_alert(world, "Payments")["incident_id"] != identity


def test_an_unknown_incident_can_be_neither_resolved_nor_written_up(world: World) -> None:
    world.refusal("POST", f"{OWN}/incidents/nothing/resolve", 404, json={})
    world.refusal("GET", f"{OWN}/incidents/nothing/postmortem.md", 404)


def test_a_post_mortem_tells_times_impact_causes_and_what_changed(world: World) -> None:
    world.post(
        "/annotations", {"kind": "deploy", "title": "shop 1.3 | goes live", "service": "shop"}, 201
    )
    money = {"revenue_at_risk": "1200.50", "currency": "EUR", "impact": "12% of the budget is left"}
    identity = post_alert(world, **money)["incident_id"]
    world.clock.now_ms += 60_000
    world.post(f"/incidents/{identity}/ack", {"by": "ann"})
    world.post(f"/incidents/{identity}/notes", {"text": "rolled back", "by": "ann"}, 201)
    world.clock.now_ms += 3_600_000
    world.post(f"/incidents/{identity}/resolve", {"by": "ann"})
    answer = world.ask("GET", f"{OWN}/incidents/{identity}/postmortem.md")
    assert answer.headers["content-type"].startswith("text/markdown")
    text = answer.text
    assert text.startswith("# Post-mortem: Orders fell \\| &lt;b>\n")
    assert "| MTTD | 5 s |" in text or "| MTTD | 0 s |" in text
    assert "| MTTA | 1 min |" in text
    assert "| MTTR | 1 h 1 min" in text
    assert "- Revenue at risk: 1200.50 EUR" in text
    assert "- SLO checkout: 12% of the budget is left" in text
    assert "- Orders: deploy of 1.3" in text
    assert "| deploy | shop 1.3 \\| goes live |" in text
    assert "| note | rolled back (ann) |" in text
    rows = [line for line in text.splitlines() if line.startswith("| 20")]
    assert rows == sorted(rows, key=lambda row: row.split("|")[1])


def call(world: World, caller: str, called: str) -> None:
    """Store a trace in which one service calls another."""
    end_ns = world.clock.now_ms * 1_000_000

    def span(service: str, own: str, parent: str, kind: int) -> dict[str, Any]:
        one = {
            "traceId": f"{caller}{called}".encode().hex().ljust(32, "0")[:32],
            "spanId": own * 8,
            "parentSpanId": parent * 8,
            "name": service,
            "kind": kind,
            "startTimeUnixNano": str(end_ns - 50_000_000),
            "endTimeUnixNano": str(end_ns),
        }
        name = {"key": "service.name", "value": {"stringValue": service}}
        return {"resource": {"attributes": [name]}, "scopeSpans": [{"spans": [one]}]}

    spans = [span(caller, "aa", "", 2), span(called, "bb", "aa", 2)]
    assert world.ask("POST", "/v1/traces", json={"resourceSpans": spans}).status_code == 200


def test_alerts_of_services_that_stored_traces_connect_are_one_incident(world: World) -> None:
    call(world, "web", "payments")
    for _ in range(12):
        world.evaluate()
    for name, service in (("Refused", "payments"), ("Slow", "web")):
        labels = {"alertname": name, "severity": "page", "service": service}
        world.ask("POST", "/api/v2/alerts", json=[{"labels": labels}])
        world.evaluate()
    (incident,) = world.get("/incidents")["incidents"]
    assert [alert["reason"] for alert in incident["alerts"]] == ["first_alert", "topology"]


def test_a_post_mortem_measures_what_the_incident_cost(world: World) -> None:
    begin_ms = world.clock.now_ms
    good, bad = itertools.accumulate([100] * 40), itertools.accumulate([0] * 20 + [40] * 20)
    rows = []
    for place, (fine, failed) in enumerate(zip(good, bad, strict=True)):
        at_ms = begin_ms + place * 15_000
        rows.append(({"__name__": "checkouts_total", "result": "ok"}, at_ms, float(fine)))
        rows.append(({"__name__": "checkouts_total", "result": "failed"}, at_ms, float(failed)))
    world.samples(*rows)
    world.clock.now_ms = begin_ms + 300_000
    identity = post_alert(world)["incident_id"]
    running = world.ask("GET", f"{OWN}/incidents/handover").text.split("## Ended")[0]
    assert re.search(r"\d alerts fire: ErrorBudgetBurn, Orders", running)
    world.clock.now_ms = begin_ms + 595_000
    world.evaluate()
    impact = world.get(f"/incidents/{identity}")["impact"]
    (spent,) = impact["slos"]
    assert (spent["slo"], spent["service"]) == ("checkout", "shop")
    assert 0.2 < spent["error_ratio"] < 0.35
    assert spent["bad_events"] > 500
    # Of a whole period: the few minutes that there were so far would have been all of it.
    assert 0.005 < spent["budget_spent"] < 0.2
    text = world.ask("GET", f"{OWN}/incidents/{identity}/postmortem.md").text
    assert "- SLO shop/checkout: " in text
    assert "of the period's error budget" in text
    assert "| fault | it began, by the data |" in text
    assert "| first alert |" in text
    notes = world.ask("GET", f"{OWN}/incidents/handover").text
    assert "shop/checkout: " in notes.split("## Error budgets")[1].split("##")[0]
