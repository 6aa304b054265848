"""Detection and reset times of every tier against the formulas of the SRE workbook, chapter 5."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slos.burn_rate import Tier, detection_time_s, infeasible_reason, tier_factor
from slos.evaluation import SloEvaluator
from slos.spec import parse_slos
from slos.window_table import feasible, load_table, tiers_for
from store.model import Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store
from tests.slos.counters import START_MS, Recorder, at, slo_text, traffic

TICK_S = 5
FAULT_S = 9_000
END_S = 20_000
TIERS = load_table("rehearsal-24h").tiers
CASES = [
    (objective, ratio, place)
    for objective in (95.0, 99.0, 99.5, 99.9, 99.99)
    for ratio in (1.0, 0.5, 0.2, 0.05, 0.02)
    for place, tier in enumerate(TIERS)
    if ratio / (1 - objective / 100) > tier.factor * 1.02
]


def fires(counters: object, objective: float, place: int, seconds: list[int]) -> list[bool]:
    """Whether a tier fires at each of these seconds, by a new evaluator each time."""
    slos = parse_slos(slo_text(objective), "slos.yml")
    found = []
    for second in seconds:
        evaluator = SloEvaluator(counters, Recorder(), slos)  # type: ignore[arg-type]
        found.append(evaluator.tick(at(second)).statuses[0].tiers[place].firing)
    return found


@pytest.mark.parametrize(("objective", "ratio", "place"), CASES)
def test_a_tier_detects_and_resets_when_the_workbook_says_within_a_tick(
    objective: float, ratio: float, place: int
) -> None:
    tier = TIERS[place]
    budget = 1 - objective / 100
    # (1 - SLO) / error ratio x long window x factor.
    detected_s = budget / ratio * tier.long_s * tier.factor
    ended_s = FAULT_S + round(detected_s + 2 * tier.short_s)
    # The short window falls to the factor when so much of it is still bad.
    reset_s = tier.short_s * (1 - tier.factor * budget / ratio)
    counters = traffic(END_S, 1_000.0, [(FAULT_S, ended_s, ratio)])
    found = fires(
        counters,
        objective,
        place,
        [
            FAULT_S,
            max(FAULT_S + int(detected_s) - TICK_S, FAULT_S),
            FAULT_S + int(detected_s) + TICK_S,
            max(ended_s + int(reset_s) - TICK_S, ended_s - 1),
            ended_s + int(reset_s) + TICK_S,
        ],
    )
    assert found == [False, False, True, True, False]
    assert detection_time_s(tier, objective / 100, ratio) == pytest.approx(detected_s)


@pytest.mark.parametrize("objective", [0.99, 0.999])
@pytest.mark.parametrize("ratio", [1.0, 0.4])
def test_the_same_holds_over_the_store(objective: float, ratio: float) -> None:
    every_ms, fault_s, seconds = 1_000, 900, 1_200
    ts = np.arange(0, seconds * 1_000, every_ms, dtype=np.int64)
    bad = np.cumsum(np.where(ts >= fault_s * 1_000, 100.0 * ratio, 0.0))
    batch = SampleBatch(
        (Labels.of(__name__="requests", a="b"), Labels.of(__name__="errors", a="b")),
        np.repeat(np.arange(2, dtype=np.int32), len(ts)),
        np.tile(ts + START_MS, 2),
        np.concatenate([np.cumsum(np.full(len(ts), 100.0)), bad]),
    )
    expected_s = (1 - objective) / ratio * TIERS[0].long_s * TIERS[0].factor
    with open_store() as store:
        store.append(batch).result(timeout=30)
        evaluator = SloEvaluator(Engine(store), store, parse_slos(slo_text(objective * 100), "f"))
        detected_s = next(
            second - fault_s
            for second in range(fault_s, seconds, TICK_S)
            if evaluator.tick(at(second)).statuses[0].tiers[0].firing
        )
    assert expected_s - 1 <= detected_s <= expected_s + TICK_S + 1


@given(
    st.integers(1, 366).map(lambda days: days * 86_400),
    st.floats(0.5, 0.99999),
    st.sampled_from(["google-30d", "rehearsal-24h"]),
)
@settings(deadline=None)
def test_tiers_of_any_period_are_derived_and_those_that_cannot_fire_are_refused_with_the_sum(
    period_s: int, objective: float, table: str
) -> None:
    tiers = tiers_for(load_table(table), period_s, scaled=True)
    kept, refused = feasible(tiers, objective)
    assert len(kept) + len(refused) == len(tiers)
    for tier in tiers:
        assert tier.factor == pytest.approx(tier_factor(tier.budget, period_s, tier.long_s))
        # All the budget's share goes within the long window at the factor.
        assert tier.factor * tier.long_s / period_s == pytest.approx(tier.budget)
        assert tier.short_s < tier.long_s
    for tier in kept:
        assert detection_time_s(tier, objective, 1.0) is not None
    for tier in set(tiers) - set(kept):
        assert detection_time_s(tier, objective, 1.0 - 1e-12) is None
        assert f"= {1 / (1 - objective):.4g}" in infeasible_reason(tier, objective)


@pytest.mark.parametrize(
    ("objective", "factor", "possible"),
    [(0.9, 14.4, False), (0.93, 14.4, False), (0.9306, 14.4, True), (0.6, 2.5, False)],
)  # fmt: skip
def test_a_factor_at_or_above_one_by_the_budget_can_never_fire(
    objective: float, factor: float, *, possible: bool
) -> None:
    tier = Tier("page", 3_600, 300, 0.02, factor)
    assert (infeasible_reason(tier, objective) == "") is possible
