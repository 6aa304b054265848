"""Findings and the judgement of single traces, over the whole service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from detectors.finding import CodeLocation, Evidence, Finding, Impact, Priority
from tests.warroom.traces import TRACE_ID, product_list
from tests.warroom.world import NOW_MS, World

FINDING = Finding(
    fingerprint="f1",
    kind="n_plus_one_query",
    priority=Priority.P1,
    title="brand is asked for once a product",
    service="shop",
    route="products/",
    first_seen_ms=NOW_MS - 60_000,
    last_seen_ms=NOW_MS - 1_000,
    evidence=Evidence(
        trace_id=TRACE_ID,
        parent_span_id="b7ad6b7169203331",
        span_ids=("01", "02"),
        statement="SELECT name FROM brand WHERE id = ?",
        repetitions=20,
        code=CodeLocation("shop/views.py", 42, "products"),
        window_start_ms=NOW_MS - 60_000,
        window_end_ms=NOW_MS,
    ),
    impact=Impact(0.5, 2.0, "12.50"),
    fix="select_related('brand')",
)
FIELDS = {
    "id",
    "fingerprint",
    "kind",
    "priority",
    "status",
    "title",
    "service",
    "route",
    "occurrences",
    "first_seen",
    "last_seen",
    "evidence",
    "impact",
    "confidence",
    "complete",
    "fix",
}
EVIDENCE = {
    "trace_id",
    "parent_span_id",
    "span_ids",
    "statement",
    "repetitions",
    "code",
    "series",
    "window",
}
IMPACT = {
    "wasted_seconds_per_request",
    "requests_per_second",
    "wasted_hours_per_day",
    "money_per_hour",
}


def known(world: World, *findings: Finding) -> None:
    world.service.sight.findings.record(findings, NOW_MS)


def several(count: int) -> list[Finding]:
    return [
        replace(FINDING, fingerprint=f"f{n}", last_seen_ms=NOW_MS - n * 1_000) for n in range(count)
    ]


def ids(answer: dict[str, Any]) -> list[str]:
    return [finding["id"] for finding in answer["findings"]]


def test_a_finding_has_every_promised_field(world: World) -> None:
    known(world, FINDING)
    (shown,) = world.get("/findings")["findings"]
    assert set(shown) >= FIELDS
    assert set(shown["evidence"]) >= EVIDENCE
    assert set(shown["impact"]) >= IMPACT
    assert shown["id"] == shown["fingerprint"] == "f1"
    assert (shown["priority"], shown["status"]) == ("P1", "open")
    assert shown["last_seen"] == "2026-09-21T14:13:19.000Z"
    assert shown["evidence"]["code"] == {
        "file": "shop/views.py",
        "line": 42,
        "function": "products",
        "inferred": False,
    }
    assert shown["evidence"]["window"]["to"] == "2026-09-21T14:13:20.000Z"
    assert shown["impact"]["wasted_hours_per_day"] == 0.5 * 2 * 24
    assert shown["impact"]["money_per_hour"] == "12.50"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["slow", "f1", "old"]),
        ({"kind": "slow_query"}, ["slow"]),
        ({"service": "cart"}, ["old"]),
        ({"priority": "P2"}, ["slow"]),
        ({"status": "fixed"}, ["old"]),
        ({"status": "open"}, ["slow", "f1"]),
        ({"status": "open", "kind": "n_plus_one_query"}, ["f1"]),
        ({"from": "now-10m"}, ["slow", "f1"]),
        ({"to": "now-1h"}, ["old"]),
        ({"from": "2026-09-21T13:00:00Z", "to": "1789996400"}, ["old"]),
        ({"kind": "replica_lag"}, []),
    ],
    ids=str,
)
def test_findings_are_narrowed_by(
    world: World, filters: dict[str, str], expected: list[str]
) -> None:
    known(
        world,
        FINDING,
        replace(
            FINDING,
            fingerprint="slow",
            kind="slow_query",
            priority=Priority.P2,
            last_seen_ms=NOW_MS,
        ),
        replace(
            FINDING,
            fingerprint="old",
            service="cart",
            first_seen_ms=NOW_MS - 3_700_000,
            last_seen_ms=NOW_MS - 3_650_000,
        ),
    )
    world.post("/findings/old/fixed")
    assert ids(world.get("/findings", **filters)) == expected


def test_pages_together_are_the_whole_list(world: World) -> None:
    known(world, *several(7))
    pages, token = [], None
    while True:
        page = world.get("/findings", limit=3, **({"after": token} if token else {}))
        assert len(page["findings"]) <= 3
        pages += ids(page)
        token = page["next"]
        if token is None:
            break
    assert pages == [f"f{n}" for n in range(7)]


@pytest.mark.parametrize(
    "parameters",
    [
        {"after": "nonsense"},
        {"limit": 0},
        {"limit": 501},
        {"from": "yesterday"},
        {"from": "1e300"},
        {"to": "now-99999999999y"},
        {"status": "opne"},
        {"priority": "P9"},
    ],
    ids=str,
)
def test_a_question_that_makes_no_sense_is_refused(world: World, parameters: Any) -> None:
    path = "/api/warroom/v1/findings"
    assert world.refusal("GET", path, 400, params=parameters)["code"] == "bad_input"


def test_one_finding_tells_its_history(world: World) -> None:
    known(world, FINDING)
    shown = world.get("/findings/f1")
    assert set(shown) >= FIELDS
    assert [entry["event"] for entry in shown["history"]] == ["opened"]


@pytest.mark.parametrize("act", ["reopen", "fixed"])
def test_what_is_unknown_cannot_be_changed(world: World, act: str) -> None:
    error = world.refusal("POST", f"/api/warroom/v1/findings/nothing/{act}", 404)
    assert error["code"] == "not_found"
    assert "nothing" in error["message"]
    assert world.refusal("GET", "/api/warroom/v1/findings/nothing", 404) == error
    body = {"reason": "known", "until": "2099-01-01T00:00:00Z"}
    path = "/api/warroom/v1/findings/nothing/suppress"
    assert world.refusal("POST", path, 404, json=body) == error


def test_a_suppression_ends_by_itself(world: World) -> None:
    known(world, FINDING)
    body = {"reason": "accepted until the sale", "until": "2026-09-21T14:23:20Z"}
    assert world.post("/findings/f1/suppress", body)["status"] == "suppressed"
    world.evaluate(5_000)
    assert world.get("/findings/f1")["status"] == "suppressed"
    world.evaluate(600_000)
    shown = world.get("/findings/f1")
    assert shown["status"] == "open"
    assert [e["event"] for e in shown["history"]][:3] == ["opened", "suppressed", "expired"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": "", "until": "2099-01-01T00:00:00Z"},
        {"reason": "   ", "until": "2099-01-01T00:00:00Z"},
        {"reason": "known", "until": "2020-01-01T00:00:00Z"},
        {"reason": "known", "until": ""},
        {"reason": "known", "until": "soon"},
        {"reason": "known"},
        {"reason": "known", "until": "2099-01-01T00:00:00Z", "utnil": "x"},
        {"reason": "x" * 1_001, "until": "2099-01-01T00:00:00Z"},
        ["reason"],
    ],
    ids=str,
)
def test_a_suppression_without_reason_or_end_is_refused(world: World, body: Any) -> None:
    known(world, FINDING)
    world.refusal("POST", "/api/warroom/v1/findings/f1/suppress", 400, json=body)
    assert world.get("/findings/f1")["status"] == "open"


def test_fixed_and_reopened_by_hand(world: World) -> None:
    known(world, FINDING)
    assert world.post("/findings/f1/fixed")["status"] == "fixed"
    assert world.post("/findings/f1/reopen")["status"] == "open"


def test_what_is_seen_again_after_its_fix_has_regressed(world: World) -> None:
    known(world, FINDING)
    world.post("/findings/f1/fixed")
    known(world, FINDING)
    late = world.get("/findings/f1")
    assert (late["status"], late["active"]) == ("fixed", False), "it is from before the fix"
    known(world, replace(FINDING, last_seen_ms=NOW_MS + 1))
    again = world.get("/findings/f1")
    assert (again["status"], again["active"], again["fixed_at"]) == ("regressed", True, None)


def test_who_changed_a_finding_when_and_why_can_be_read(world: World) -> None:
    known(world, FINDING)
    until = "2026-09-28T00:00:00.000Z"
    body = {"reason": "tenants", "until": until, "by": "anna", "max_repetitions": 40}
    shown = world.post("/findings/f1/suppress", body)
    assert shown["suppression"] == {"reason": "tenants", "until": until, "max_repetitions": 40}
    reopened = world.post("/findings/f1/reopen", {"by": "ben", "reason": "tenants are gone"})
    assert reopened["suppression"] is None
    fixed = world.post("/findings/f1/fixed", {"by": "ben", "reason": "select_related"})
    assert fixed["fixed_at"] == "2026-09-21T14:13:20.000Z"
    history = world.get("/findings/f1")["history"]
    assert [(e["event"], e["by"], e["detail"]) for e in history] == [
        ("opened", "warroom", FINDING.title),
        ("suppressed", "anna", "tenants"),
        ("reopened", "ben", "tenants are gone"),
        ("fixed", "ben", "select_related"),
    ]


def test_impact_and_effort_are_told_beside_the_priority(world: World) -> None:
    known(world, FINDING)
    shown = world.get("/findings/f1")
    assert (shown["impact"]["level"], shown["effort"], shown["priority"]) == ("high", "small", "P1")
    assert shown["impact"]["requests_hit_per_hour"] == 7_200


def test_a_trace_that_is_sent_is_found_and_explained(world: World) -> None:
    sent = world.ask("POST", "/v1/traces", json=product_list(NOW_MS))
    assert sent.status_code == 200, sent.text
    world.evaluate()
    world.evaluate()
    (found,) = world.get("/findings", kind="n_plus_one_query")["findings"]
    assert found["service"] == "shop"
    assert found["route"] == "products/"
    assert found["evidence"]["trace_id"] == TRACE_ID
    assert found["evidence"]["repetitions"] == 20
    assert "?" in found["evidence"]["statement"]
    assert found["fix"]
    told = world.get(f"/traces/{TRACE_ID}/explain")
    assert set(told) == {"findings", "not_reported"}
    assert "n_plus_one_query" in {finding["kind"] for finding in told["findings"]}
    assert set(told["findings"][0]) >= FIELDS


def test_why_a_trace_was_not_reported_is_told_with_its_numbers(world: World) -> None:
    world.ask("POST", "/v1/traces", json=product_list(NOW_MS, queries=3))
    world.evaluate()
    told = world.get(f"/traces/{TRACE_ID}/explain")
    assert told["findings"] == []
    gates = {entry["gate"]: entry for entry in told["not_reported"]}
    assert set(gates["min_repetitions"]) >= {"shape", "gate", "value", "threshold"}
    assert gates["min_repetitions"]["value"] < gates["min_repetitions"]["threshold"]
    assert "brand" in gates["min_repetitions"]["shape"]


def test_an_unknown_or_unreadable_trace_is_told_apart(world: World) -> None:
    own = "/api/warroom/v1/traces"
    assert world.refusal("GET", f"{own}/{'1' * 32}/explain", 404)["code"] == "not_found"
    assert world.refusal("GET", f"{own}/nonsense/explain", 400)["code"] == "bad_input"
