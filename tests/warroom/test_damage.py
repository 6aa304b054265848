"""What incidents cost is read once for all who look, and in pieces when there is much to read."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from alerts.incidents import Incident, IncidentState
from slos.spec import parse_slos
from slos.spent import Stretch, spent
from store.errors import QueryError
from tests.slos.counters import Counters, at, slo_text, traffic
from warroom.damage import Damages

END_S = 4_000
MINUTE_MS = 60_000


class Reads:
    """Counts queries; a query of a service that is named fails."""

    def __init__(self, counters: Counters) -> None:
        self.count = 0
        self.fails = False
        self._counters = counters

    def instant(self, expr: str, ts_ms: int) -> Any:
        self.count += 1
        if self.fails:
            raise QueryError("too many series")
        return self._counters.instant(expr, ts_ms)

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> Any:
        return self._counters.range(expr, start_ms, end_ms, step_ms)


class Desk:
    """Damages over five SLOs, with a clock that the test holds."""

    def __init__(self) -> None:
        self.now_ms = at(END_S)
        self.reads = Reads(traffic(END_S, 50.0, [(END_S - 600, END_S, 0.5)]))
        self.slos = [parse_slos(slo_text(name=f"api-{n}"), "f")[0] for n in range(5)]
        self.planned: list[tuple[int, int]] = []
        evaluator: Any = SimpleNamespace(
            slos=self.slos, maintenance=lambda _slo, _start_ms, _end_ms: self.planned
        )
        orders: Any = SimpleNamespace(points=(), revenue_at_risk=None)
        business: Any = SimpleNamespace(orders=lambda _start, _end, _step: orders)
        querier: Any = self.reads
        self.damages = Damages(querier, evaluator, tuple, business, lambda: self.now_ms)


RUNNING = Incident("inc-1", "t", "page", IncidentState.OPEN, at(END_S - 600), at(END_S - 590))
OVER = replace(RUNNING, state=IncidentState.RESOLVED, resolved_ms=at(END_S))


def test_however_many_look_at_a_running_incident_it_is_read_once_a_minute() -> None:
    desk = Desk()
    first = desk.damages.of(RUNNING, 30.0)
    asked = desk.reads.count
    assert len(first.slos) == 5
    for _ in range(10):
        desk.now_ms += 5_000
        assert desk.damages.of(RUNNING, 30.0) == first
    assert desk.reads.count == asked
    desk.now_ms += 10_000
    desk.damages.of(RUNNING, 30.0)
    assert desk.reads.count == 2 * asked


def test_what_an_incident_that_is_over_cost_is_read_no_more_once_late_samples_are_in() -> None:
    desk = Desk()
    desk.damages.of(OVER, 30.0)
    asked = desk.reads.count
    desk.now_ms += 6 * MINUTE_MS
    desk.damages.of(OVER, 30.0)
    assert desk.reads.count == 2 * asked
    desk.now_ms += 24 * 60 * MINUTE_MS
    desk.damages.of(OVER, 30.0)
    assert desk.reads.count == 2 * asked


def test_what_could_not_be_read_is_read_again_though_the_incident_is_over() -> None:
    desk = Desk()
    desk.now_ms += 6 * MINUTE_MS
    desk.reads.fails = True
    assert len(desk.damages.of(OVER, 30.0).unknown) == 5
    desk.reads.fails = False
    desk.now_ms += MINUTE_MS
    assert desk.damages.of(OVER, 30.0).unknown == ()


def test_a_deadline_leaves_the_rest_to_the_next_look_and_says_so() -> None:
    desk = Desk()
    late = desk.damages.of(RUNNING, 0.0)
    assert (late.slos, desk.reads.count) == ((), 0)
    assert "5 SLOs: not read in time" in late.unknown[0]
    whole = desk.damages.of(RUNNING, 30.0)
    assert len(whole.slos) == 5
    assert whole.unknown == ()
    # While the next one is not whole the last is shown.
    desk.now_ms += MINUTE_MS
    assert desk.damages.of(RUNNING, 0.0) == whole


def test_what_fell_into_maintenance_cost_nothing() -> None:
    desk = Desk()
    desk.planned = [(at(END_S - 700), at(END_S + 100))]
    (own, *_rest) = desk.slos
    with_it = spent(own, desk.reads, Stretch(at(END_S - 660), at(END_S), desk.planned), None)
    assert with_it is None
    desk.planned = [(at(END_S - 600), at(END_S - 300))]
    whole = spent(own, desk.reads, Stretch(at(END_S - 600), at(END_S)), 1e6)
    half = spent(own, desk.reads, Stretch(at(END_S - 600), at(END_S), desk.planned), 1e6)
    assert whole is not None
    assert half is not None
    assert half.bad == pytest.approx(whole.bad / 2, rel=0.02)  # type: ignore[operator]
    assert half.share == pytest.approx(whole.share / 2, rel=0.02)


def test_what_is_planned_is_cut_to_the_stretch() -> None:
    stretch = Stretch(at(0), at(100), [(at(-50), at(20)), (at(90), at(200)), (at(300), at(400))])
    assert stretch.within() == [(at(0), at(20)), (at(90), at(100))]
