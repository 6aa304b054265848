"""SLOs from tick to tick, over simulated counters and a fixed clock."""

from __future__ import annotations

import re

import numpy as np
import pytest
from typing_extensions import override

from slos.evaluation import SloEvaluator, SloTick
from slos.model import SloState, SloStatus
from slos.run import Surroundings
from slos.spec import parse_slos
from store.errors import StoreUnavailable
from store.model import InstantVector, Labels
from tests.slos.counters import Counters, Recorder, at, seconds_of, slo_text, traffic

STEP_S = 5


def run(counters: Counters, text: str, seconds: range) -> dict[int, SloStatus]:
    evaluator = SloEvaluator(counters, Recorder(), parse_slos(text, "slos.yml"))
    return {second: evaluator.tick(at(second)).statuses[0] for second in seconds}


def firing(status: SloStatus, severity: str = "page") -> bool:
    return any(tier.firing for tier in status.tiers if tier.severity == severity)


def first(statuses: dict[int, SloStatus], *, fires: bool, after: int) -> int:
    return next(s for s, status in statuses.items() if s >= after and firing(status) is fires)


@pytest.mark.parametrize(
    ("objective", "ratio", "long_s"),
    [(99.0, 1.0, 120), (99.0, 0.5, 120), (99.9, 1.0, 120), (99.9, 0.1, 120), (99.5, 0.2, 120)],
)
def test_a_sudden_burn_is_found_when_the_workbook_says_within_a_tick(
    objective: float, ratio: float, long_s: int
) -> None:
    fault = 3_600
    counters = traffic(5_000, 100.0, [(fault, 5_000, ratio)])
    statuses = run(counters, slo_text(objective), range(fault - 60, fault + 300, STEP_S))
    expected_s = (1 - objective / 100) / ratio * long_s * 14.4
    found_s = first(statuses, fires=True, after=fault) - fault
    assert expected_s <= found_s <= expected_s + STEP_S + 1


def test_a_burn_ends_a_short_window_after_the_fault_within_a_tick() -> None:
    counters = traffic(6_000, 100.0, [(3_600, 3_700, 1.0)])
    statuses = run(counters, slo_text(), range(3_600, 4_000, STEP_S))
    page = {s: status.tiers[0].firing for s, status in statuses.items()}
    resolved = next(s for s, fires in page.items() if s >= 3_700 and not fires)
    # The burn over 10 s falls to 14.4 when 14.4 % of them are failures.
    assert 3_705 <= resolved <= 3_700 + 10 + STEP_S


def test_the_same_burn_scaled_to_a_month_is_found_in_its_own_time() -> None:
    counters = traffic(40_000, 10.0, [(36_000, 40_000, 1.0)])
    text = slo_text(99.0, "google-30d")
    statuses = run(counters, text, range(36_000, 37_200, STEP_S))
    assert first(statuses, fires=True, after=36_000) - 36_000 == pytest.approx(518, abs=STEP_S + 1)


def test_three_minutes_of_data_are_judged_on_those_three_minutes() -> None:
    counters = traffic(180, 10.0, [(90, 180, 0.02)])
    status = run(counters, slo_text(99.0, "google-30d"), range(180, 181))[180]
    assert status.sli == pytest.approx(0.99)
    assert status.error_budget_remaining == pytest.approx(0.0, abs=1e-9)
    assert status.total_events == pytest.approx(1_800)
    assert status.bad_events == pytest.approx(18)
    assert status.burn_rates["1h"] == pytest.approx(1.0)


def test_five_failures_out_of_five_at_night_page() -> None:
    requests, errors = np.zeros(40_000), np.zeros(40_000)
    requests[:20_000] = 1.0
    requests[39_900::20] = errors[39_900::20] = 1.0
    status = run(Counters(requests=requests, errors=errors), slo_text(99.0), range(40_000, 40_001))
    assert status[40_000].tiers[0].firing
    assert status[40_000].state is SloState.BURNING


def test_one_failure_out_of_ten_at_night_does_not_page() -> None:
    requests, errors = np.zeros(40_000), np.zeros(40_000)
    requests[39_900::10] = 1.0
    errors[39_990] = 1.0
    status = run(Counters(requests=requests, errors=errors), slo_text(99.9), range(40_000, 40_001))
    tier = status[40_000].tiers[0]
    assert not tier.firing
    assert tier.reason == "fewer_than_two_bad_events"
    assert tier.long_burn == pytest.approx(100)


def test_the_burn_is_told_in_requests_and_time_left() -> None:
    counters = traffic(7_200, 10.0, [(7_100, 7_200, 0.25)])
    status = run(counters, slo_text(99.0), range(7_200, 7_201))[7_200]
    assert status.statement.startswith("burning 20.8\u00d7 over 2 min: 250 of 1,200 requests")
    assert "budget gone in 45 min" in status.statement
    assert status.tiers[0].since_ms == at(7_100)
    assert status.exhausts_at_ms is not None


def test_a_series_that_was_never_there_is_no_data_and_not_ok() -> None:
    status = run(Counters(), slo_text(), range(60, 61))[60]
    assert status.state is SloState.NO_DATA
    assert status.sli is None
    assert status.error_budget_remaining is None


def test_traffic_that_stops_is_no_data_and_not_ok() -> None:
    requests = np.concatenate([np.full(600, 10.0), np.zeros(600)])
    counters = Counters(requests=requests, errors=np.zeros(1_200))
    assert run(counters, slo_text(), range(1_200, 1_201))[1_200].state is SloState.NO_DATA


def test_a_missing_error_series_means_no_errors() -> None:
    counters = Counters(requests=np.full(600, 10.0))
    status = run(counters, slo_text(), range(600, 601))[600]
    assert status.state is SloState.OK
    assert status.sli == 1.0


def test_what_fires_is_held_for_one_long_window_when_its_data_vanish() -> None:
    counters = traffic(3_700, 100.0, [(3_600, 3_700, 1.0)])
    full = counters.totals
    evaluator = SloEvaluator(counters, Recorder(), parse_slos(slo_text(), "slos.yml"))
    assert firing(evaluator.tick(at(3_700)).statuses[0])
    counters.totals = {}
    held = evaluator.tick(at(3_705)).statuses[0]
    assert held.tiers[0].firing
    assert held.tiers[0].reason == "held_without_data"
    assert not evaluator.tick(at(3_700 + 121)).statuses[0].tiers[0].firing
    assert full


def test_an_slo_that_fails_leaves_the_others_alone_and_says_so() -> None:
    text = (
        slo_text(name="broken").replace("sum(rate(errors", "sum(rate(boom")
        + slo_text(name="well").split("slos:")[1]
    )
    counters = traffic(600, 10.0, [])
    counters.fail = "boom"
    recorder = Recorder()
    tick: SloTick = SloEvaluator(counters, recorder, parse_slos(text, "slos.yml")).tick(at(600))
    assert [s.state for s in tick.statuses] == [SloState.NO_DATA, SloState.OK]
    assert [h.ok for h in tick.health] == [False, True, True]
    assert "the store is gone" in tick.health[0].error
    assert {labels.get("sloth_slo") for labels in recorder.latest()} == {"well"}


def test_a_failing_query_does_not_resolve_a_page() -> None:
    counters = traffic(3_800, 100.0, [(3_600, 3_800, 1.0)])
    evaluator = SloEvaluator(counters, Recorder(), parse_slos(slo_text(), "slos.yml"))
    assert firing(evaluator.tick(at(3_700)).statuses[0])
    counters.fail = "requests"
    status = evaluator.tick(at(3_705)).statuses[0]
    assert firing(status)
    assert status.state is SloState.BURNING
    assert "the store is gone" in status.error


def test_a_store_that_takes_no_samples_is_told_in_the_health() -> None:
    recorder = Recorder()
    recorder.error = StoreUnavailable("disk full")
    evaluator = SloEvaluator(traffic(600, 1.0, []), recorder, parse_slos(slo_text(), "slos.yml"))
    tick = evaluator.tick(at(600))
    assert [h.ok for h in tick.health] == [True, False]
    assert "disk full" in tick.health[1].error


def test_the_series_have_the_names_and_labels_of_sloth() -> None:
    recorder = Recorder()
    counters = traffic(3_600, 10.0, [(0, 3_600, 0.005)])
    SloEvaluator(counters, recorder, parse_slos(slo_text(), "slos.yml")).tick(at(3_600))
    recorded = recorder.latest()
    base = {"sloth_id": "shop-api", "sloth_service": "shop", "sloth_slo": "api", "team": "checkout"}

    def value(metric: str, **labels: str) -> float:
        return recorded[Labels.of(base | labels, __name__=metric)]

    assert value("slo:objective:ratio") == pytest.approx(0.99)
    assert value("slo:error_budget:ratio") == pytest.approx(0.01)
    assert value("slo:sli_error:ratio_rate2m", sloth_window="2m") == pytest.approx(0.005)
    assert value("slo:sli_error:ratio_rate10s", sloth_window="10s") == pytest.approx(0.005)
    assert value("slo:current_burn_rate:ratio") == pytest.approx(0.5)
    assert value("slo:period_error_budget_remaining:ratio") == pytest.approx(0.5)
    assert any(labels.metric == "sloth_slo_info" for labels in recorded)


def test_long_windows_are_not_read_anew_at_each_tick_and_stay_true() -> None:
    counters = traffic(200_000, 10.0, [(100_000, 100_600, 0.5), (199_000, 199_500, 0.3)])
    evaluator = SloEvaluator(counters, Recorder(), parse_slos(slo_text(99.0, "google-30d"), "f"))
    for second in range(198_000, 200_000, STEP_S):
        status = evaluator.tick(at(second)).statuses[0]
        bad = 3_000 + 3.0 * min(max(second - 199_000, 0), 500)
        assert status.bad_events == pytest.approx(bad, rel=1e-6)
    whole = sum("[30d]" in query for query in counters.asked)
    assert whole <= 4
    assert sum("[1h]" in query for query in counters.asked) == 800


def test_a_short_window_widens_when_samples_are_too_rare_for_it() -> None:
    class Rare(Counters):
        @override
        def instant(self, expr: str, ts_ms: int) -> InstantVector:
            window = re.search(r"\[(\w+)\]", expr)
            assert window is not None
            if seconds_of(window[1]) < 30:
                return InstantVector((), np.empty(0))
            return super().instant(expr, ts_ms)

    source = traffic(3_700, 100.0, [(3_600, 3_700, 1.0)])
    counters = Rare()
    counters.totals = source.totals
    status = run(counters, slo_text(), range(3_700, 3_701))[3_700]
    assert status.tiers[0].firing


def test_events_under_maintenance_do_not_count_against_the_budget() -> None:
    class Maintenance:
        def spans(self, slo_id: str, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
            assert slo_id == "shop-api"
            return [(at(1_000), at(1_600))]

    counters = traffic(10_000, 10.0, [(1_000, 1_600, 1.0), (2_000, 2_100, 0.1)])
    slos = parse_slos(slo_text(), "f")
    evaluator = SloEvaluator(counters, Recorder(), slos, Surroundings(Maintenance()))
    status = evaluator.tick(at(10_000)).statuses[0]
    assert status.bad_events == pytest.approx(100)
    assert status.total_events == pytest.approx(94_000)


def test_a_query_that_answers_several_series_says_what_to_write() -> None:
    class Many(Counters):
        @override
        def instant(self, expr: str, ts_ms: int) -> InstantVector:
            return InstantVector((Labels.of(a="1"), Labels.of(a="2")), np.ones(2))

    tick = SloEvaluator(Many(), Recorder(), parse_slos(slo_text(), "f")).tick(at(10))
    assert "wrap it in sum" in tick.health[0].error
