"""Composites, inhibited tiers, maintenance, policies and the outlook for a sale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from alerts.sources.burn_rate import alerts_of
from slos.evaluation import SloEvaluator
from slos.model import SloState, SloStatus
from slos.outlook import SaleEvent, next_event
from slos.policy import Policy, PolicyChanges, PolicySpan, Step, broke, follow
from slos.repository import PolicyRepository
from slos.run import Surroundings
from slos.spec import parse_slo_files, parse_slos
from store.testing import open_state
from tests.slos.counters import Counters, Recorder, at, slo_text, traffic

DAY_S = 86_400


class Maintenance:
    def __init__(self, *spans: tuple[int, int]) -> None:
        self._spans = [(at(start), at(end)) for start, end in spans]

    def spans(self, slo_id: str, start_ms: int, end_ms: int) -> Sequence[tuple[int, int]]:
        return [span for span in self._spans if span[1] > start_ms and span[0] < end_ms]


def severities(status: SloStatus) -> list[str]:
    return [alert.labels.get("severity") for alert in alerts_of([status])]


# --- tiers that have nothing to add


def test_a_ticket_is_inhibited_while_a_page_speaks_of_the_same_burn() -> None:
    counters = traffic(12_000, 100.0, [(9_000, 9_600, 1.0)])
    evaluator = SloEvaluator(counters, Recorder(), parse_slos(slo_text(), "f"))
    told = {s: evaluator.tick(at(s)).statuses[0] for s in range(8_990, 10_600, 10)}
    during = told[9_590]
    assert [tier.firing for tier in during.tiers] == [True] * 4
    assert [tier.inhibited for tier in during.tiers] == [False, False, True, True]
    assert severities(during) == ["page"]
    # The page ends a short window after the fault; what the ticket knows, nobody was told yet.
    after = told[9_700]
    assert [tier.firing for tier in after.tiers] == [False, False, True, True]
    assert severities(after) == ["ticket"]


def test_a_ticket_that_was_told_before_the_page_is_not_taken_back() -> None:
    # Slow at first, then everything fails.
    counters = traffic(14_000, 100.0, [(9_000, 13_000, 0.045), (13_000, 14_000, 1.0)])
    evaluator = SloEvaluator(counters, Recorder(), parse_slos(slo_text(), "f"))
    seen = [severities(evaluator.tick(at(s)).statuses[0]) for s in range(8_990, 13_500, 10)]
    seen = [s for i, s in enumerate(seen) if i == 0 or s != seen[i - 1]]
    assert seen == [[], ["ticket"], ["page", "ticket"]]


# --- low traffic


@pytest.mark.parametrize("windows", ["google-30d", "rehearsal-24h"])
@pytest.mark.parametrize("objective", [99.0, 99.9])
def test_at_night_five_failures_of_five_page_and_one_of_ten_does_not(
    objective: float, windows: str
) -> None:
    day, night = 90_000, 4_000
    for failures, calls, pages in ((5, 5, True), (1, 10, False), (0, 10, False)):
        requests, errors = np.zeros(day + night), np.zeros(day + night)
        requests[:day] = 5.0
        places = np.linspace(day + night - 110, day + night - 1, calls).astype(int)
        requests[places] = 1.0
        errors[places[len(places) - failures :] if failures else []] = 1.0
        counters = Counters(requests=requests, errors=errors)
        evaluator = SloEvaluator(
            counters, Recorder(), parse_slos(slo_text(objective, windows), "f")
        )
        status = evaluator.tick(at(day + night)).statuses[0]
        assert (severities(status) == ["page"]) is pages, (failures, calls, status.tiers)


# --- composites

JOURNEY = """
---
apiVersion: warroom.dev/v1
kind: CompositeSLO
metadata: {name: journey}
spec:
  service: shop
  method: METHOD
  target: 0.99
  timeWindow: [{duration: 1d, isRolling: true}]
  members: [{slo: cart, weight: 3}, {slo: pay}]
"""


def journey(method: str, cart: float, pay: float) -> SloStatus:
    text = slo_text(name="cart") + slo_text(name="pay").split("slos:")[1].replace(
        "(errors", "(refused"
    )
    requests = np.full(4_000, 100.0)
    counters = Counters(requests=requests, errors=requests * cart, refused=requests * pay)
    slos = parse_slo_files({"f": text + JOURNEY.replace("METHOD", method)}).slos
    tick = SloEvaluator(counters, Recorder(), slos).tick(at(4_000))
    assert all(health.ok for health in tick.health), tick.health
    return tick.statuses[2]


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("weighted", (3 * 0.02 + 0.1) / 4),
        ("product", 1 - 0.98**3 * 0.9),
        ("min", 0.1),
    ],
)
def test_a_composite_is_made_of_its_members_error_ratios(method: str, error: float) -> None:
    status = journey(method, 0.02, 0.1)
    assert status.sli == pytest.approx(1 - error)
    assert status.error_budget_remaining == pytest.approx(1 - error / 0.01)
    assert status.state is SloState.BURNING


def test_a_composite_of_healthy_members_is_healthy() -> None:
    assert journey("product", 0.0, 0.0).state is SloState.OK


def test_a_composite_without_any_data_has_none() -> None:
    slos = parse_slo_files({"f": slo_text(name="cart") + slo_text(name="pay").split("slos:")[1]
                            + JOURNEY.replace("METHOD", "min")}).slos  # fmt: skip
    tick = SloEvaluator(Counters(), Recorder(), slos).tick(at(60))
    assert [status.state for status in tick.statuses] == [SloState.NO_DATA] * 3


def test_a_composite_follows_a_member_that_a_reload_changed() -> None:
    text = slo_text(name="cart") + slo_text(name="pay").split("slos:")[1]
    text += JOURNEY.replace("METHOD", "min")
    counters = traffic(4_000, 100.0, [])
    evaluator = SloEvaluator(counters, Recorder(), parse_slos(text, "f"))
    assert evaluator.tick(at(3_990)).statuses[2].sli == 1.0
    evaluator.reload(parse_slos(text.replace("rate(errors", "rate(requests", 1), "f"))
    assert evaluator.tick(at(4_000)).statuses[2].sli == 0.0


# --- maintenance


def test_what_fails_in_maintenance_neither_pages_nor_spends() -> None:
    counters = traffic(6_000, 100.0, [(5_000, 5_600, 1.0)])
    for spans, fires, spent in (((), True, True), (((4_990, 5_610),), False, False)):
        around = Surroundings(Maintenance(*spans))
        evaluator = SloEvaluator(counters, Recorder(), parse_slos(slo_text(), "f"), around)
        statuses = [evaluator.tick(at(s)).statuses[0] for s in range(4_900, 5_800, 20)]
        assert any(tier.firing for s in statuses for tier in s.tiers) is fires
        assert ((statuses[-1].error_budget_remaining or 0.0) < 1.0) is spent


def test_a_fault_that_outlasts_its_maintenance_pages() -> None:
    counters = traffic(6_000, 100.0, [(5_000, 6_000, 1.0)])
    around = Surroundings(Maintenance((4_990, 5_300)))
    evaluator = SloEvaluator(counters, Recorder(), parse_slos(slo_text(), "f"), around)
    first = next(
        s
        for s in range(5_000, 6_000, 5)
        if any(tier.firing for tier in evaluator.tick(at(s)).statuses[0].tiers)
    )
    assert 5_300 < first <= 5_330


# --- policies

PEAK = Policy(
    "peak", (Step(0.0, "freeze", "Only fixes."), Step(0.25, "caution")), ("shop-api", "shop-gone")
)


def status(left: float | None) -> SloStatus:
    return SloStatus(
        name="api", service="shop", description="", objective=0.99, window_s=DAY_S, sli=None,
        error_budget_remaining=left, burn_rates={}, tiers=(), state=SloState.OK, at_ms=0,
    )  # fmt: skip


def test_a_policy_follows_the_budget_down_and_up_and_silence_lifts_nothing() -> None:
    book = PolicyRepository(open_state())
    held = []
    for now_ms, left in enumerate((0.5, 0.2, -0.1, None, -0.2, 0.1, 0.9), start=1):
        changes = follow([PEAK], [status(left)], book.open(), now_ms)
        book.apply(changes, now_ms)
        held.append([span.action for span in book.open()])
    assert held == [[], ["caution"], ["freeze"], ["freeze"], ["freeze"], ["caution"], []]
    assert [(s.action, s.since_ms, s.until_ms) for s in book.between(0, 100)] == [
        ("caution", 6, 7),
        ("freeze", 3, 6),
        ("caution", 2, 3),
    ]


def test_a_policy_that_is_gone_ends_what_it_held() -> None:
    open_spans = [PolicySpan("peak", "shop-api", "shop", "freeze", "", 1, -0.1)]
    changes = follow([], [status(-0.1)], open_spans, 9)
    assert [span.until_ms for span in changes.ended] == [9]
    assert follow([PEAK], [status(-0.1)], open_spans, 9) == PolicyChanges()


@pytest.mark.parametrize(
    ("at_ms", "kind", "service", "broken"),
    [
        (150, "deploy", "shop", True),
        (150, "deploy", "", True),
        (150, "deploy", "search", False),
        (150, "note", "shop", False),
        (99, "deploy", "shop", False),
        (200, "deploy", "shop", False),
    ],
)
def test_a_freeze_is_broken_by_deploys_of_its_service_while_it_holds(
    at_ms: int, kind: str, service: str, *, broken: bool
) -> None:
    span = PolicySpan("peak", "shop-api", "shop", "freeze", "", 100, -0.1, until_ms=200)
    assert broke(span, at_ms, kind, service) is broken


def test_the_evaluator_keeps_the_policies_of_its_slos() -> None:
    book = PolicyRepository(open_state())
    counters = traffic(5_000, 100.0, [(4_000, 5_000, 1.0)])
    slos = parse_slos(slo_text(), "f")
    evaluator = SloEvaluator(counters, Recorder(), slos, book=book, policies=[PEAK])
    for second in (3_990, 4_900):
        tick = evaluator.tick(at(second))
        assert all(health.ok for health in tick.health)
    (span,) = book.open()
    assert (span.action, span.slo_id, span.since_ms) == ("freeze", "shop-api", at(4_900))


# --- the sale to come


def sale(name: str, first_day: int, days: int) -> SaleEvent:
    return SaleEvent(name, at(first_day * DAY_S), at((first_day + days) * DAY_S))


def busy_days(days: int, busy: dict[int, float], fails: float) -> Counters:
    """One request a second, or as many as `busy` says, day by day."""
    rate = np.ones(days * DAY_S)
    for day, factor in busy.items():
        rate[day * DAY_S : (day + 1) * DAY_S] = factor
    return Counters(requests=rate, errors=rate * fails)


def test_the_budget_at_the_end_of_a_sale_is_told_under_last_year_s_traffic() -> None:
    # A sale of two days with four times the traffic; the next begins in three days.
    counters = busy_days(40, {10: 4.0, 11: 4.0}, 0.005)
    events = (sale("black-friday", 10, 2), sale("black-friday", 43, 2))
    around = Surroundings(events=lambda: events)
    slos = parse_slos(slo_text(99.0, "google-30d"), "f")
    found = SloEvaluator(counters, Recorder(), slos, around).tick(at(40 * DAY_S)).statuses[0]
    outlook = found.outlook
    assert outlook is not None
    assert (outlook.event, outlook.basis) == ("black-friday", "same_sale_before")
    assert outlook.expected_events == pytest.approx((3 + 8) * DAY_S, rel=0.001)
    # Half of one percent fails all the time: half of the budget goes.
    assert outlook.remaining == pytest.approx(0.5, abs=0.001)
    # 25 days before now stay in the window, and half of their budget with them.
    budget = 0.01 * (25 + 11) * DAY_S
    assert outlook.allowed_error_ratio == pytest.approx(
        (budget - 0.005 * 25 * DAY_S) / (11 * DAY_S), rel=0.01
    )
    assert "at the end of black-friday" in outlook.statement


def test_during_a_sale_its_own_beginning_sets_the_level() -> None:
    counters = busy_days(44, {10: 4.0, 11: 4.0, 43: 8.0}, 0.0)
    events = (sale("black-friday", 10, 2), sale("black-friday", 43, 2))
    around = Surroundings(events=lambda: events)
    slos = parse_slos(slo_text(99.0, "google-30d"), "f")
    found = SloEvaluator(counters, Recorder(), slos, around).tick(at(44 * DAY_S)).statuses[0]
    assert found.outlook is not None
    assert found.outlook.expected_events == pytest.approx(8 * DAY_S, rel=0.001)
    assert found.outlook.remaining == pytest.approx(1.0)


def test_without_an_earlier_sale_last_week_s_pace_stands_in() -> None:
    around = Surroundings(events=lambda: (sale("summer", 12, 1),))
    slos = parse_slos(slo_text(99.0, "google-30d"), "f")
    counters = busy_days(10, {}, 0.0)
    found = SloEvaluator(counters, Recorder(), slos, around).tick(at(10 * DAY_S)).statuses[0]
    assert found.outlook is not None
    assert found.outlook.basis == "last_week"
    assert found.outlook.expected_events == pytest.approx(3 * DAY_S, rel=0.001)


def test_the_next_event_is_the_one_that_goes_on_or_comes() -> None:
    past, on, far = sale("a", 1, 1), sale("b", 4, 2), sale("c", 300, 1)
    assert next_event([past, on, far], at(5 * DAY_S)) == on
    assert next_event([past, far], at(5 * DAY_S)) is None
