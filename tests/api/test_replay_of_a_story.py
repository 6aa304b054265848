"""A replayed story: purchases that came late, a rule that was edited, a page given back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alerts.incidents import Incident, IncidentAlert, IncidentEvent, IncidentState
from alerts.state import fingerprint
from api.replay.alerts_then import IncidentLog, alerts_at
from store.model import Labels
from store.promql.engine import Engine
from store.promql.testing import MemoryReader
from store.timestamps import rfc3339
from tests.warroom.world import IN_MEMORY, RULES, World, open_world

BOARD = """
name: mine
title: Mine
range: 10m
rows:
  - panels:
      - {id: sold, kind: stat, kpi: orders_per_minute}
      - {id: searched, kind: stat, kpi: search_abandonment}
      - {id: alerts, kind: alerts}
"""
FILES = {"boards/mine.yaml": BOARD, "rules.yml": RULES}
TEXT = f"{IN_MEMORY}boards_dir: boards\nrule_files: [rules.yml]\n"
LABELS = Labels.of({"alertname": "QueueGrows", "severity": "page"})
MINE = fingerprint(LABELS)


def panels(world: World, at_ms: int) -> dict[str, Any]:
    found: dict[str, Any] = world.get("/replay", board="mine", at=str(at_ms / 1000))["panels"]
    return found


def alert(world: World, at_ms: int) -> dict[str, Any]:
    found = panels(world, at_ms)["alerts"]["alerts"]
    (one,) = (each for each in found if each["name"] == "QueueGrows")
    return dict(one)


def purchase(world: World, number: int, at_ms: int) -> None:
    event = {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "shop",
        "type": "purchase",
        "time": rfc3339(at_ms),
        "data": {"transaction_id": f"o{number}", "value": "10.00", "currency": "EUR"},
    }
    answer = world.ask("POST", "/events", json=event)
    assert answer.status_code == 202, answer.text


def test_what_came_and_was_edited_later_is_not_shown_as_known_then(tmp_path: Path) -> None:
    with open_world(tmp_path, TEXT, FILES) as world:

        def tick(jobs: float) -> int:
            now_ms = world.clock.now_ms + 5_000
            world.samples(({"__name__": "queue_length"}, now_ms, jobs))
            return world.evaluate()

        tick(1.0)
        purchase(world, 1, world.clock.now_ms - 1_000)
        first = tick(500.0)
        # Two more of the same minute, told after that tick.
        purchase(world, 2, first - 2_000)
        purchase(world, 3, first - 3_000)
        incident = world.get("/incidents")["incidents"][0]["id"]
        engine = world.service.paging.engine
        engine.acknowledge(incident, "ada", first + 1_000)
        taken = tick(500.0)
        engine.reopen(incident, "bo", taken + 1_000)
        given_back = tick(500.0)
        edited = RULES.replace("jobs wait", "jobs are late").replace("restart the", "feed the")
        (tmp_path / "rules.yml").write_text(edited)
        assert world.ask("POST", "/-/reload").status_code == 200
        tick(700.0)
        tick(1.0)

        assert panels(world, first)["sold"]["value"] == 1.0
        assert panels(world, taken)["sold"]["value"] == 3.0
        for at_ms in (first, taken, given_back):
            then = alert(world, at_ms)
            assert then["summary"] == then["annotations"]["summary"] == "500 jobs wait"
            assert then["since"] == rfc3339(first)
            assert then["incident_id"] == incident
        told = [alert(world, at_ms)["acknowledged_by"] for at_ms in (first, taken, given_back)]
        assert told == ["", "ada", ""]


def log_of(incident: Incident, *lines: tuple[int, str, str, str]) -> IncidentLog:
    events = [IncidentEvent(incident.id, at, kind, title, ref) for at, kind, title, ref in lines]
    return IncidentLog(running=lambda _: (incident,), lines=lambda _: {incident.id: events})


def shown(log: IncidentLog, at_ms: int) -> list[tuple[str, str, str | None]]:
    found = alerts_at(Engine(MemoryReader()), log, (), at_ms)
    return [(one["summary"], one["acknowledged_by"], one["since"]) for one in found]


PART = IncidentAlert(MINE, LABELS, {"summary": "the last words"}, fired_ms=50_000)
INCIDENT = Incident("inc-1", "Queue", "page", IncidentState.OPEN, 10_000, 10_000, alerts=(PART,))


def test_an_alert_that_fired_twice_in_one_incident_is_there_both_times() -> None:
    log = log_of(
        INCIDENT,
        (10_000, "alert", "the first time", MINE),
        (20_000, "resolved", "QueueGrows", MINE),
        (50_000, "alert", "again", MINE),
    )
    assert shown(log, 9_999) == []
    assert shown(log, 19_999) == [("the first time", "", rfc3339(10_000))]
    assert shown(log, 20_000) == []
    assert shown(log, 50_000) == [("again", "", rfc3339(50_000))]


@pytest.mark.parametrize("back", ["reopened", "ack_timeout"])
def test_who_had_taken_an_incident_then_is_told_after_it_was_given_back(back: str) -> None:
    log = log_of(
        INCIDENT,
        (10_000, "alert", "Queue", MINE),
        (30_000, back, "given back", ""),
        # Told late, and dated when it was done; the first one stays.
        (20_000, "ack", "acknowledged by ada", "ada"),
        (25_000, "ack", "acknowledged by bo", "bo"),
        (40_000, "ack", "acknowledged by cy", "cy"),
    )
    at = (19_999, 20_000, 29_999, 30_000, 40_000)
    assert [who for at_ms in at for _, who, _ in shown(log, at_ms)] == ["", "ada", "ada", "", "cy"]


def test_an_end_by_hand_that_was_taken_back_brings_only_back_what_fires_on() -> None:
    other = Labels.of({"alertname": "Ended", "severity": "page"})
    parts = (
        replace(PART, fired_ms=10_000, resolved_ms=40_000),
        # It ended while the incident was closed: no line says so.
        IncidentAlert(fingerprint(other), other, {}, fired_ms=10_000, resolved_ms=20_000),
    )
    log = log_of(
        replace(INCIDENT, alerts=parts),
        (10_000, "alert", "Queue", MINE),
        (10_000, "alert", "Ended", fingerprint(other)),
        (20_000, "closed", "resolved by ada", "ada"),
        (30_000, "reopened", "reopened by bo", "bo"),
        (40_000, "resolved", "Queue", MINE),
    )
    told = {at_ms: {summary for summary, _, _ in shown(log, at_ms)} for at_ms in (15_000, 35_000)}
    assert told == {15_000: {"Queue", "Ended"}, 35_000: {"Queue"}}
    assert shown(log, 40_000) == []


def test_an_alert_that_the_timeline_does_not_name_is_told_by_its_part() -> None:
    log = log_of(INCIDENT, (50_000, "alert", "and 300 more at the same time", ""))
    assert shown(log, 49_999) == []
    assert shown(log, 50_000) == [("the last words", "", rfc3339(50_000))]
