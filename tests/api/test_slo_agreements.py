"""Maintenance and error-budget policies over the API of the whole service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.timestamps import rfc3339
from tests.warroom.world import IN_MEMORY, NOW_MS, SLO, World, open_world

OWN = "/api/warroom/v1"
POLICY = """
---
apiVersion: warroom.dev/v1
kind: ErrorBudgetPolicy
metadata: {name: peak}
spec:
  slos: [{slo: checkout}]
  steps: [{remainingBelow: 0, action: freeze, message: Only fixes.}]
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    files = {"slo.yml": SLO + POLICY}
    with open_world(tmp_path, f"{IN_MEMORY}slo_files: [slo.yml]\n", files) as opened:
        yield opened


def failing_checkouts(world: World) -> None:
    for place in range(0, 3_601, 15):
        at_ms = NOW_MS - 3_600_000 + place * 1_000
        world.samples(
            ({"__name__": "checkouts_total", "result": "ok"}, at_ms, place * 5.0),
            ({"__name__": "checkouts_total", "result": "failed"}, at_ms, place * 5.0),
        )


def test_a_spent_budget_freezes_and_a_deploy_that_breaks_it_is_named(world: World) -> None:
    assert world.get("/slo-policies")["policies"][0]["in_force"] == []
    failing_checkouts(world)
    now_ms = world.evaluate()
    deploy = {"kind": "deploy", "title": "v42", "service": "shop", "at": rfc3339(now_ms + 1_000)}
    other = {**deploy, "title": "search v7", "service": "search"}
    for body in (deploy, other):
        world.post("/annotations", body, status=201)
    world.evaluate()
    (policy,) = world.get("/slo-policies")["policies"]
    assert (policy["name"], policy["slos"]) == ("peak", ["shop-checkout"])
    (span,) = policy["in_force"]
    assert (span["action"], span["message"], span["until"]) == ("freeze", "Only fixes.", None)
    assert span["error_budget_remaining"] < 0
    assert [change["title"] for change in span["broken_by"]] == ["v42"]
    titles = [event["title"] for event in world.get("/timeline")["events"]]
    assert any(title.startswith("peak: freeze for shop-checkout begins") for title in titles)


def test_maintenance_is_added_listed_and_removed(world: World) -> None:
    body = {"slo": "checkout", "end": rfc3339(NOW_MS + 3_600_000), "reason": "the cache moves"}
    added = world.post("/slo-maintenance", body, status=201)
    assert added["slo"] == "shop-checkout"
    everyone = world.post("/slo-maintenance", {**body, "slo": ""}, status=201)
    listed = world.get("/slo-maintenance")["maintenance"]
    assert {span["id"] for span in listed} == {added["id"], everyone["id"]}
    assert world.ask("DELETE", f"{OWN}/slo-maintenance/{added['id']}").status_code == 204
    assert world.refusal("DELETE", f"{OWN}/slo-maintenance/{added['id']}", 404)
    assert world.get("/slo-maintenance")["maintenance"] == [everyone]


@pytest.mark.parametrize(
    "wrong",
    [
        {"slo": "nothing"},
        {"end": rfc3339(NOW_MS - 1)},
        {"end": rfc3339(NOW_MS + 40 * 86_400_000)},
        {"reason": " "},
    ],
)
def test_wrong_maintenance_is_refused_with_a_remedy(world: World, wrong: dict[str, str]) -> None:
    body = {"slo": "checkout", "end": rfc3339(NOW_MS + 60_000), "reason": "x", **wrong}
    refusal = world.refusal("POST", f"{OWN}/slo-maintenance", 400, json=body)
    assert refusal["hint"]


def test_what_failed_in_maintenance_spends_nothing(world: World) -> None:
    failing_checkouts(world)
    world.evaluate()
    assert world.get("/slos/checkout")["error_budget_remaining"] < 0
    span = {"start": rfc3339(NOW_MS - 4_000_000), "end": rfc3339(NOW_MS + 60_000)}
    world.post("/slo-maintenance", {**span, "reason": "the database moves"}, status=201)
    world.evaluate()
    slo = world.get("/slos/checkout")
    assert slo["error_budget_remaining"] in {None, 1.0}
