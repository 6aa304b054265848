"""Tiers of the real windows, judged tick after tick as the service does, against the formulas."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from slos.burn_rate import WindowReading
from slos.definition import EventSli
from slos.evaluation import SloEvaluator
from slos.measure import WindowMeter, query_reader
from slos.run import Surroundings
from slos.spec import parse_slos
from slos.tiers import MAX_SEARCHES, burning_since
from store.model import InstantVector, Labels
from tests.slos.counters import START_MS, Recorder, at, seconds_of, slo_text, traffic

TICK_S = 30
FAULT_S = 100 * 86_400


class Steady:
    """Constant traffic with one fault, known at any instant without an array of seconds."""

    def __init__(self, ratio: float, ended_s: float) -> None:
        self.ratio, self.ended_s = ratio, ended_s

    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        match = re.fullmatch(r"sum\(rate\((\w+)\[(\w+)\]\)\)", expr)
        assert match is not None, expr
        if match[1] == "requests":
            return InstantVector((Labels(),), np.asarray([1_000.0]))
        window_s, end_s = seconds_of(match[2]), (ts_ms - START_MS) / 1_000
        failed_s = min(end_s, self.ended_s) - max(end_s - window_s, FAULT_S)
        rate = 1_000.0 * self.ratio * max(failed_s, 0.0) / window_s
        return InstantVector((Labels(),), np.asarray([rate]))


def openslo(period: str, objective: float) -> str:
    def source(name: str) -> str:
        return f"{{metricSource: {{spec: {{query: 'sum(rate({name}[5m]))'}}}}}}"

    return f"""
apiVersion: openslo/v1
kind: SLO
metadata: {{name: a}}
spec:
  service: s
  timeWindow: [{{duration: {period}, isRolling: true}}]
  budgetingMethod: Occurrences
  indicator:
    metadata: {{name: i}}
    spec: {{ratioMetric: {{bad: {source("errors")}, total: {source("requests")}}}}}
  objectives: [{{target: {objective}}}]
"""


def changes(evaluator: SloEvaluator, place: int, from_s: float, until_s: float) -> dict[bool, int]:
    """The first second at which a tier fires, and at which it does not, tick after tick."""
    found: dict[bool, int] = {}
    for second in range(int(from_s), int(until_s), TICK_S):
        firing = evaluator.tick(at(second)).statuses[0].tiers[place].firing
        found.setdefault(firing, second)
    return found


CASES = [
    (period, objective, place, over)
    for period in ("7d", "28d", "90d", "1M")
    for objective in (0.95, 0.999, 0.9999)
    for place in range(4)
    for over in (1.02, 3.0, 40.0)
]


@pytest.mark.parametrize(("period", "objective", "place", "over"), CASES)
def test_a_tier_detects_and_resets_within_a_tick_of_the_formula(
    period: str, objective: float, place: int, over: float
) -> None:
    (slo,) = parse_slos(openslo(period, objective), "f")
    if place >= len(slo.tiers):
        assert slo.refused_tiers
        return
    tier = slo.tiers[place]
    threshold = tier.factor * (1 - objective)
    ratio = min(threshold * over, 1.0)
    detected_s = threshold / ratio * tier.long_s
    ended_s = FAULT_S + detected_s + 2 * tier.short_s
    reset_s = tier.short_s * (1 - threshold / ratio)
    evaluator = SloEvaluator(Steady(ratio, ended_s), Recorder(), [slo])  # type: ignore[arg-type]
    told_s = FAULT_S + detected_s
    begun = changes(evaluator, place, told_s - 3 * TICK_S, told_s + 4 * TICK_S)
    assert -1 <= begun[True] - told_s <= TICK_S + 1
    quiet_s = ended_s + reset_s
    over_at = changes(evaluator, place, quiet_s - 3 * TICK_S, quiet_s + 4 * TICK_S)
    assert -1 <= over_at[False] - quiet_s <= TICK_S + 1


def test_a_bare_ratio_moves_with_its_head_and_tail_between_full_readings() -> None:
    (slo,) = parse_slos(openslo("30d", 0.99), "f")
    sli = slo.sli
    assert isinstance(sli, EventSli)
    counted = query_reader("a", sli, Steady(0.5, 1e12))  # type: ignore[arg-type]

    def bare(window_s: int, now_ms: int) -> WindowReading:
        return replace(counted(window_s, now_ms), bad=None, total=None)

    meter = WindowMeter(bare)
    for second in range(FAULT_S + 600, FAULT_S + 900, 7):
        found = meter.read(21_600, at(second), None).error_ratio
        assert found == pytest.approx(bare(21_600, at(second)).error_ratio, rel=1e-3)


def test_a_mean_of_recorded_rates_counts_no_events_and_is_judged_by_its_ratio() -> None:
    text = slo_text().replace("sum(rate(errors", "sum(avg_over_time(errors:rate1m")
    text = text.replace("sum(rate(requests", "sum(avg_over_time(requests:rate1m")
    (slo,) = parse_slos(text, "f")

    class Answers:
        def instant(self, expr: str, _ts_ms: int) -> InstantVector:
            rate = 0.4 if "errors" in expr else 2.0
            return InstantVector((Labels(),), np.asarray([rate]))

    tick = SloEvaluator(Answers(), Recorder(), [slo]).tick(at(0))  # type: ignore[arg-type]
    (status,) = tick.statuses
    assert status.total_events is None
    assert status.tiers[0].firing  # 20 % of errors, though less than one a second


@pytest.mark.parametrize("age_s", [30, 200, 1_000])
def test_a_burn_is_known_to_have_begun_with_the_fault(age_s: int) -> None:
    end_s = 8_000
    (slo,) = parse_slos(slo_text(), "f")
    sli = slo.sli
    assert isinstance(sli, EventSli)
    counters = traffic(end_s, 50.0, [(end_s - age_s, end_s, 0.5)])
    meter = WindowMeter(query_reader("a", sli, counters))
    long = meter.read(3_600, at(end_s))
    asked = 0

    def read(window_s: int) -> WindowReading:
        nonlocal asked
        asked += 1
        return meter.between(at(end_s - window_s), at(end_s))

    since_s = (burning_since(long, 300, read, at(end_s)) - START_MS) / 1_000
    assert since_s == pytest.approx(end_s - age_s, abs=max(3, age_s * 0.03))
    assert asked <= 8


@pytest.mark.parametrize("age_s", [2_400, 3_000])
def test_a_burn_did_not_begin_with_planned_work_but_with_the_fault(age_s: int) -> None:
    end_s = 8_000
    (slo,) = parse_slos(slo_text(99.0, "google-30d"), "f")
    planned = (end_s - 1_200, end_s - 600)
    counters = traffic(end_s, 50.0, [(end_s - age_s, end_s, 0.5), (*planned, 1.0)])
    span = at(planned[0]), at(planned[1])
    spans = SimpleNamespace(spans=lambda _id, _start_ms, _end_ms: [span])
    evaluator = SloEvaluator(counters, Recorder(), [slo], Surroundings(spans))
    tier = evaluator.tick(at(end_s)).statuses[0].tiers[0]
    assert tier.firing
    assert tier.since_ms is not None
    since_s = (tier.since_ms - START_MS) / 1_000
    assert since_s == pytest.approx(end_s - age_s, abs=age_s * 0.03)


def test_when_much_breaks_at_once_a_tick_searches_for_few_and_guesses_the_others_until_later() -> (
    None
):
    text = openslo("30d", 0.999)
    many = MAX_SEARCHES + 5
    slos = [parse_slos(text.replace("name: a", f"name: a{n}"), "f")[0] for n in range(many)]
    counted = 0

    steady = Steady(1.0, 1e12)

    class Counting:
        def instant(self, expr: str, ts_ms: int) -> InstantVector:
            nonlocal counted
            counted += 1
            return steady.instant(expr, ts_ms)

    evaluator = SloEvaluator(Counting(), Recorder(), slos)  # type: ignore[arg-type]
    evaluator.tick(at(FAULT_S - 5))
    evaluator.tick(at(FAULT_S))
    usual, counted = counted, 0
    fired_s = FAULT_S + 60
    guessed = evaluator.tick(at(fired_s)).statuses
    assert all(status.tiers[0].firing for status in guessed)
    assert counted <= usual + MAX_SEARCHES * 2 * 10
    since = [(s.tiers[0].since_ms or 0) - at(FAULT_S) for s in guessed]
    assert max(map(abs, since[:MAX_SEARCHES])) <= 3_000
    assert max(map(abs, since)) <= 300_000
    evaluator.tick(at(fired_s + 5))
    later = evaluator.tick(at(fired_s + 10)).statuses
    assert max(abs((s.tiers[0].since_ms or 0) - at(FAULT_S)) for s in later) <= 5_000


def test_sloth_s_series_have_its_names_and_labels_for_every_window_even_without_alerts() -> None:
    text = slo_text(99.0, "google-30d").rstrip() + "\n"
    text += "    alerting: {page_alert: {disable: true}, ticket_alert: {disable: true}}\n"
    recorder = Recorder()
    slos = parse_slos(text, "f")
    evaluator = SloEvaluator(traffic(4_000, 10.0, []), recorder, slos)
    evaluator.tick(at(4_000))
    base = {"sloth_id": "shop-api", "sloth_service": "shop", "sloth_slo": "api", "team": "checkout"}
    series = {labels.get("__name__"): labels.to_dict() for labels in recorder.latest()}
    for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"):
        name = f"slo:sli_error:ratio_rate{window}"
        assert series.pop(name) == base | {"__name__": name, "sloth_window": window}
    info = series.pop("sloth_slo_info")
    assert set(info) == {
        *base, "__name__", "sloth_mode", "sloth_objective", "sloth_spec", "sloth_version"
    }  # fmt: skip
    assert (info["sloth_objective"], info["sloth_spec"]) == ("99", "prometheus/v1")
    assert set(series) == {
        "slo:objective:ratio",
        "slo:error_budget:ratio",
        "slo:time_period:days",
        "slo:current_burn_rate:ratio",
        "slo:period_burn_rate:ratio",
        "slo:period_error_budget_remaining:ratio",
    }
    assert all(labels == base | {"__name__": name} for name, labels in series.items())
