"""A board at an earlier instant: what was known then, and nothing that came later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from alerts.incidents import Incident, IncidentAlert, IncidentState
from alerts.silences import Silence, equality
from alerts.state import fingerprint
from api.panels.earlier_sale import earlier_sale
from api.replay.alerts_then import IncidentLog, alerts_at
from api.replay.figures import kpis_at
from api.replay.past import findings_at
from business_metrics.calendar import SaleDay
from business_metrics.memory import Breach
from detectors.decision import HistoryEntry
from detectors.finding import Suppression
from store.model import STALE_NAN_BITS, Labels
from store.promql.engine import Engine
from store.promql.testing import MemoryReader
from tests.api.test_warroom_findings import FINDING
from tests.warroom.traces import product_list
from tests.warroom.world import IN_MEMORY, RULES, SLO, World, open_world

BOARD = """
name: mine
title: Mine
range: 10m
rows:
  - panels:
      - {id: jobs, kind: stat, query: sum(queue_length)}
      - {id: line, kind: timeseries, query: sum(queue_length)}
      - {id: orders, kind: stat, kpi: orders_per_minute}
      - {id: alerts, kind: alerts}
      - {id: findings, kind: findings}
      - {id: slos, kind: slo}
      - {id: changes, kind: timeline}
      - {id: fresh, kind: freshness}
"""
FILES = {"boards/mine.yaml": BOARD, "rules.yml": RULES, "slo.yml": SLO}
TEXT = f"{IN_MEMORY}boards_dir: boards\nrule_files: [rules.yml]\nslo_files: [slo.yml]\n"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, int]]]:
    """A calm shop; then a queue that grows and an N+1; then both are over."""
    with open_world(tmp_path_factory.mktemp("replay"), TEXT, FILES) as world:
        at: dict[str, int] = {}

        def tick(jobs: float, failing: float) -> int:
            now_ms = world.clock.now_ms + 5_000
            for result, share in (("ok", 1 - failing), ("failed", failing)):
                labels = {"__name__": "checkouts_total", "result": result}
                counts[result] += 100 * share
                world.samples((labels, now_ms, counts[result]))
            world.samples(({"__name__": "queue_length"}, now_ms, jobs))
            return world.evaluate()

        counts = {"ok": 0.0, "failed": 0.0}
        for _ in range(4):
            at["calm"] = tick(1.0, 0.0)
        world.post("/annotations", {"kind": "deploy", "title": "v7", "service": "shop"}, 201)
        trace = product_list(world.clock.now_ms)
        world.ask("POST", "/v1/traces", json=trace)
        for _ in range(4):
            at["bad"] = tick(500.0, 0.5)
        for _ in range(6):
            at["over"] = tick(2.0, 0.0)
        yield world, at


def replay(world: World, at_ms: int, **more: str) -> dict[str, Any]:
    answer: dict[str, Any] = world.get("/replay", board="mine", at=str(at_ms / 1000), **more)
    assert answer["now_ms"] == at_ms
    return answer


def names(panel: dict[str, Any]) -> list[str]:
    return [alert["name"] for alert in panel["alerts"]]


def test_figures_and_graphs_end_at_the_instant(story: tuple[World, dict[str, int]]) -> None:
    world, at = story
    panels = replay(world, at["bad"])["panels"]
    assert panels["jobs"]["value"] == 500.0
    assert panels["line"]["t"][-1] == at["bad"]
    assert panels["line"]["series"][0]["values"][-1] == 500.0
    assert replay(world, at["calm"])["panels"]["jobs"]["value"] == 1.0
    assert replay(world, at["over"])["panels"]["jobs"]["value"] == 2.0


def test_an_alert_is_there_only_while_it_fired(story: tuple[World, dict[str, int]]) -> None:
    world, at = story
    assert names(replay(world, at["calm"])["panels"]["alerts"]) == []
    then = replay(world, at["bad"])["panels"]["alerts"]
    assert "QueueGrows" in names(then)
    (alert,) = (alert for alert in then["alerts"] if alert["name"] == "QueueGrows")
    assert (alert["state"], alert["severity"]) == ("firing", "page")
    assert alert["summary"] == "500 jobs wait"
    assert len({alert["fingerprint"] for alert in then["alerts"]}) == len(then["alerts"])
    assert "QueueGrows" not in names(replay(world, at["over"])["panels"]["alerts"])


def test_an_alert_is_silenced_where_a_silence_covered_it_then() -> None:
    reader = MemoryReader()
    times = (0, 59_999, 60_000, 119_999, 120_000)
    labels = {"__name__": "ALERTS", "alertname": "QueueGrows", "alertstate": "firing"}
    reader.put(Labels.of(labels), list(times), [1.0] * len(times))
    matchers = (equality("alertname", "QueueGrows"),)
    silences = [Silence("s", matchers, 60_000, 120_000, "ada", "we know", 130_000)]
    log = IncidentLog(running=lambda _: (), lines=lambda _: {})
    found = [alerts_at(Engine(reader), log, silences, at_ms) for at_ms in times]
    assert [alert["silenced"] for (alert,) in found] == [False, False, True, True, False]


def test_evidence_that_was_seen_later_says_so() -> None:
    finding = replace(FINDING, last_seen_ms=2_000)
    history = [HistoryEntry(finding.fingerprint, 1_000, "opened", "")]
    known = [findings_at([finding], history, at_ms) for at_ms in (999, 1_999, 2_000)]
    marks = [[one["evidence_known_later"] for one in then] for then in known]
    assert marks == [[], [True], [False]]


def test_how_a_finding_ended_is_unknown_before_it_did() -> None:
    quiet = Suppression("we know", 9_000)
    seen = replace(FINDING, last_seen_ms=1_500)
    ends = {"suppressed": replace(seen, suppression=quiet), "fixed": replace(seen, fixed_ms=2_000)}
    for event, finding in ends.items():
        history = [
            HistoryEntry(finding.fingerprint, 1_000, "opened", ""),
            HistoryEntry(finding.fingerprint, 2_000, event, ""),
        ]
        ((before,), (after,)) = (findings_at([finding], history, at) for at in (1_999, 2_000))
        assert (before["status"], before["suppression"], before["fixed_at"]) == ("open", None, None)
        assert after["status"] == event
        assert after["suppression"] or after["fixed_at"]


def test_a_figure_is_wrong_from_when_it_was_known_and_as_bad_as_it_was_then() -> None:
    """A breach that was found at 60 s began at 20 s, became a page at 120 s and ended at 150 s."""
    reader = MemoryReader()

    def record(name: str, at_s: range, value: float, **labels: str) -> None:
        times = [1_000 * second for second in at_s]
        reader.put(Labels.of(labels, __name__=name), times, [value] * len(times))

    def alerts(at_s: range, severity: str) -> None:
        labels = {"alertname": "OrderRateDrop", "kpi": "order_rate", "alertstate": "firing"}
        times = [1_000 * second for second in (*at_s, at_s.stop)]
        gone = float(np.int64(STALE_NAN_BITS).view(np.float64))
        values = [1.0] * len(at_s) + [gone]
        reader.put(Labels.of(labels, __name__="ALERTS", severity=severity), times, values)

    record("warroom_business_orders_per_minute", range(0, 200, 5), 3.0)
    record("warroom_business_revenue_at_risk", range(0, 200, 5), 1234.5, currency="EUR")
    alerts(range(60, 120, 5), "ticket")
    alerts(range(120, 180, 5), "page")
    breach = Breach("order_rate", 20_000, 150_000, "page")

    def told(at_s: int) -> tuple[bool, str, int | None, str | None]:
        found = kpis_at(Engine(reader), lambda _kpi, _since: [breach], at_s * 1_000)
        one = next(each for each in found if each.kpi == "order_rate")
        risk = one.revenue_at_risk
        return one.breached, one.severity, one.since_ms, None if risk is None else str(risk)

    assert told(40) == (False, "", None, None)
    assert told(80) == (True, "ticket", 20_000, "1234.50")
    assert told(130) == (True, "page", 20_000, "1234.50")
    assert told(170)[:2] == (True, "page")
    assert told(190) == (False, "", None, None)


def test_words_that_may_have_changed_since_say_so() -> None:
    labels = Labels.of({"alertname": "QueueGrows"})
    part = IncidentAlert(fingerprint(labels), labels, {"impact": "much"}, 1_000, 9_000)
    incident = Incident("i", "Q", "page", IncidentState.OPEN, 1_000, 1_000, alerts=(part,))
    log = IncidentLog(running=lambda _: (incident,), lines=lambda _: {})
    (then,) = alerts_at(Engine(MemoryReader()), log, (), 5_000)
    assert then["words_known_later"] is True


def test_a_finding_is_unknown_before_it_was_found(story: tuple[World, dict[str, int]]) -> None:
    world, at = story
    assert replay(world, at["calm"])["panels"]["findings"]["findings"] == []
    (finding,) = replay(world, at["bad"])["panels"]["findings"]["findings"]
    assert finding["kind"] == "n_plus_one_query"
    assert finding["active"] is True


def test_an_slo_has_the_budget_of_then(story: tuple[World, dict[str, int]]) -> None:
    world, at = story
    (calm,) = replay(world, at["calm"])["panels"]["slos"]["slos"]
    (bad,) = replay(world, at["bad"])["panels"]["slos"]["slos"]
    assert (calm["name"], calm["objective"], calm["state"]) == ("checkout", 0.99, "ok")
    assert calm["error_budget_remaining"] == pytest.approx(1.0)
    assert bad["error_budget_remaining"] < 0
    # The word that the wall shows live: a burn is told also when nothing is left to burn.
    assert any(tier["firing"] for tier in bad["tiers"])
    assert bad["state"] == "burning"


def test_what_changed_later_is_not_told(story: tuple[World, dict[str, int]]) -> None:
    world, at = story
    told = [e["title"] for e in replay(world, at["bad"])["panels"]["changes"]["events"]]
    assert any("v7" in title for title in told)
    assert replay(world, at["calm"] - 5_000)["panels"]["changes"]["events"] == []


def test_what_nobody_recorded_says_so(story: tuple[World, dict[str, int]]) -> None:
    world, at = story
    fresh = replay(world, at["bad"])["panels"]["fresh"]
    assert fresh["state"] == "no_data"
    assert fresh["note"].startswith("not recorded")


def test_the_range_is_what_was_asked_for(story: tuple[World, dict[str, int]]) -> None:
    world, at = story
    day = replay(world, at["over"], **{"from": str(at["over"] / 1000 - 86_400)})
    assert day["range_ms"] == 86_400_000
    assert len(day["panels"]["line"]["t"]) <= 362
    for wrong in ({"board": "none"}, {"at": "soon"}, {"from": "now", "at": "now-1h"}):
        answer = world.ask("GET", "/api/warroom/v1/replay", params={"board": "mine", **wrong})
        assert answer.status_code in {400, 404}


CALENDAR = (
    SaleDay("Black Friday", date(2025, 11, 28), date(2025, 12, 1)),
    SaleDay("Summer", date(2026, 7, 1), date(2026, 7, 2)),
    SaleDay("Black Friday", date(2026, 11, 27), date(2026, 11, 30)),
)
BERLIN = ZoneInfo("Europe/Berlin")


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "name", "then"),
    [
        ("2026-11-28T10:00:00+01:00", "Black Friday 2025", "2025-11-29T10:00:00+01:00"),
        ("2026-11-10T10:00:00+01:00", "Summer 2026", "2026-07-01T10:00:00+02:00"),
        ("2026-03-01T23:30:00+01:00", "Black Friday 2025", "2025-11-28T23:30:00+01:00"),
    ],
)
def test_a_sale_is_compared_with_the_same_moment_of_the_one_before(
    now: str, name: str, then: str
) -> None:
    found = earlier_sale(CALENDAR, BERLIN, _ms(now))
    assert found is not None
    assert (found.name, found.at_ms) == (name, _ms(then))


@pytest.mark.parametrize("now", ["2025-11-28T10:00:00+01:00", "2025-06-01T10:00:00+02:00"])
def test_without_an_earlier_sale_nothing_is_compared(now: str) -> None:
    assert earlier_sale(CALENDAR, BERLIN, _ms(now)) is None
