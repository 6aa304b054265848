"""The impact x effort matrix: more harm is never less urgent, more effort never more."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.impact import priced, weigh
from detectors.priority import MATRIX, Effort, ImpactLevel, effort_of, level_of, priority_of
from detectors.settings import PrioritySettings

LEVELS, EFFORTS = tuple(ImpactLevel), tuple(Effort)
SETTINGS = PrioritySettings()


def finding(
    kind: str = "n_plus_one_query", wasted_s: float = 0.1, repeats: int = 20, share: float = 0.0
) -> Finding:
    return Finding(
        fingerprint="f1",
        kind=kind,
        priority=Priority.P2,
        title="",
        service="shop",
        route="products/",
        first_seen_ms=0,
        last_seen_ms=0,
        evidence=Evidence(trace_id="ab", repetitions=repeats, detail={"wasted_share": share}),
        impact=Impact(wasted_s),
        fix="",
    )


def test_the_matrix_is_monotone_and_whole() -> None:
    for effort in EFFORTS:
        for mild, grave in pairwise(LEVELS):
            assert priority_of(grave, effort) <= priority_of(mild, effort)
    for level in LEVELS:
        for cheap, dear in pairwise(EFFORTS):
            assert priority_of(level, cheap) <= priority_of(level, dear)
    assert {priority for row in MATRIX.values() for priority in row.values()} == set(Priority)
    assert all(priority_of(ImpactLevel.LOW, effort) is Priority.P2 for effort in EFFORTS)


AMOUNT = st.floats(0, 10, allow_nan=False)
RATE = st.floats(0, 100, allow_nan=False)


@given(
    st.tuples(AMOUNT, RATE, st.integers(0, 100), st.floats(0, 1), st.floats(0, 1)),
    st.tuples(AMOUNT, RATE, st.integers(0, 100), st.floats(0, 1), st.floats(0, 1)),
    st.sampled_from(["n_plus_one_query", "slow_query", "consecutive_calls", "blocking_call"]),
)
def test_what_costs_more_in_every_way_is_never_less_urgent(
    one: tuple[float, float, int, float, float],
    other: tuple[float, float, int, float, float],
    kind: str,
) -> None:
    less = [min(pair) for pair in zip(one, other, strict=True)]
    more = [max(pair) for pair in zip(one, other, strict=True)]

    def priority(wasted: float, rate: float, repeats: float, share: float, hit: float) -> Priority:
        known = finding(kind, wasted, int(repeats), share)
        return priced(known, rate, SETTINGS, hit).priority

    assert priority(*more) <= priority(*less)


@pytest.mark.parametrize(
    ("wasted_s", "rate", "level"),
    [
        (0.049, 1_000.0, ImpactLevel.LOW),
        (0.1, 0.1, ImpactLevel.LOW),
        (0.1, 0.25, ImpactLevel.MEDIUM),
        (0.1, 0.5, ImpactLevel.HIGH),
        (0.1, 10.0, ImpactLevel.CRITICAL),
    ],
)
def test_felt_waste_is_weighed_by_the_hours_it_costs(
    wasted_s: float, rate: float, level: ImpactLevel
) -> None:
    known = replace(finding(), impact=Impact(wasted_s, rate))
    assert weigh(known, SETTINGS).level is level


@pytest.mark.parametrize(
    ("wasted_s", "rate", "reason"),
    [
        (0.5, 10.0, "500 ms a request, 120.0 h a day wasted"),
        (0.1, 0.25, "100 ms a request, 36 min a day wasted"),
        (0.02, 0.01, "20 ms a request, 17 s a day wasted"),
        (0.02, 0.0, "20 ms a request"),
        (0.0004, 0.01, "less than 1 ms a request"),
    ],
)
def test_the_reason_of_a_priority_never_says_that_no_time_is_wasted(
    wasted_s: float, rate: float, reason: str
) -> None:
    assert (
        priced(finding(wasted_s=wasted_s), rate, SETTINGS).evidence.detail["priority_reason"]
        == reason
    )


def test_effort_moves_a_medium_impact_by_one_step() -> None:
    query = priced(finding("n_plus_one_query"), 0.25, SETTINGS)
    call = priced(finding("n_plus_one_call"), 0.25, SETTINGS)
    assert level_of(query) is level_of(call) is ImpactLevel.MEDIUM
    assert (query.priority, call.priority) == (Priority.P1, Priority.P2)
    assert (effort_of("n_plus_one_query"), effort_of("n_plus_one_call")) == ("small", "medium")


def test_a_fault_of_few_requests_costs_as_much_as_those_requests() -> None:
    all_of_them = priced(finding(), 10.0, SETTINGS, hit_share=1.0)
    some = priced(finding(), 10.0, SETTINGS, hit_share=0.01)
    assert (all_of_them.priority, some.priority) == (Priority.P0, Priority.P2)
    assert some.impact.requests_hit_per_hour == pytest.approx(360)


def test_the_impact_of_a_signal_is_told_by_its_own_thresholds() -> None:
    signal = replace(finding("replica_lag"), evidence=Evidence(series="sig:lag"))
    assert level_of(replace(signal, priority=Priority.P1)) is ImpactLevel.HIGH
    assert level_of(replace(signal, priority=Priority.P2)) is ImpactLevel.LOW
