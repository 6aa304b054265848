"""Two windows compared: equal ones are the same, a swap turns the verdict round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.comparison import Comparison, compare, quantile
from detectors.readings import PARTS, Durations, Reading, Window, added, in_order
from detectors.route_mix import at_one_mix
from detectors.two_samples import (
    Counted,
    Difference,
    Values,
    Verdict,
    apart,
    compare_ranks,
    compare_shares,
    two_sided,
)

WINDOW = Window(0, 3_600_000)
NONE = in_order(np.empty(0))
BOUNDS = np.array([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, np.inf])
TURNED = {
    Verdict.BETTER: Verdict.WORSE,
    Verdict.WORSE: Verdict.BETTER,
    Verdict.SAME: Verdict.SAME,
    Verdict.NOT_ENOUGH_DATA: Verdict.NOT_ENOUGH_DATA,
}


def durations(values_s: np.ndarray, bounds_s: np.ndarray | None = None) -> Durations:
    """Requests in the order of time; each its own bound, unless some are given."""
    bounds = np.sort(values_s) if bounds_s is None else bounds_s
    parts = in_order(values_s).parts
    counts = [
        np.searchsorted(np.sort(values_s[parts == part]), bounds, "right") for part in range(PARTS)
    ]
    return Durations(bounds, np.array(counts, dtype=np.float64))


def counted(rng: np.random.Generator, total: int, chance: float) -> Counted:
    """Events spread over the window, each of the kind with this chance."""
    every = np.bincount(in_order(np.empty(total)).parts, minlength=PARTS)
    return Counted(rng.binomial(every, chance).astype(np.float64), every.astype(np.float64))


def whole(some: float, total: float) -> Counted:
    """Events of a window whose parts are not known."""
    return Counted(np.array([some], dtype=np.float64), np.array([total], dtype=np.float64))


def reading(rng: np.random.Generator, requests: int = 200, **changed: float) -> Reading:
    """A window of a route whose figures are drawn from fixed distributions."""
    chances = {"errors": 0.02, "hits": 0.9, "queries": 20.0, "latency": 0.1, **changed}
    gets = requests * 3
    return Reading(
        window=WINDOW,
        errors=counted(rng, requests, chances["errors"]),
        rates=in_order(rng.poisson(requests / 60, 60).astype(np.float64)),
        durations=durations(rng.lognormal(np.log(chances["latency"]), 0.6, requests)),
        counts={"query": in_order(rng.poisson(chances["queries"], requests).astype(np.float64))},
        wasted_s=in_order(rng.exponential(0.02, requests) * (rng.random(requests) < 0.5)),
        hits=counted(rng, gets, chances["hits"]),
        signal=in_order(rng.normal(5, 1, 60)),
        source="metrics",
    )


def verdicts(compared: Comparison) -> dict[str, Verdict]:
    return {figure.spec.name: figure.judgement.verdict for figure in compared.figures}


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([40, 120, 400]),
    st.sampled_from([0.0, 0.01, 0.2]),
    st.sampled_from([1.0, 6.0, 40.0]),
)
def test_windows_of_one_distribution_are_the_same(
    seed: int, requests: int, errors: float, queries: float
) -> None:
    rng = np.random.default_rng(seed)
    trials = 60
    wrong = 0
    for _ in range(trials):
        one = reading(rng, requests, errors=errors, queries=queries)
        other = reading(rng, requests, errors=errors, queries=queries)
        wrong += compare(one, other).judgement.verdict is not Verdict.SAME
    assert wrong <= trials * 0.05


def busy_minutes(rng: np.random.Generator) -> np.ndarray:
    """By how much each of 60 minutes is slower for everybody: it lasts, and comes and goes."""
    load = np.zeros(60)
    for minute in range(1, 60):
        load[minute] = 0.8 * load[minute - 1] + 0.6 * rng.normal()
    return np.exp(0.15 * load)


def test_a_busy_quarter_of_an_hour_is_no_change() -> None:
    """A request is slow because its neighbours are: thousands of them are one proof."""
    rng = np.random.default_rng(61)

    def hour(factor: float = 1.0) -> Reading:
        values = rng.lognormal(np.log(0.1), 0.6, 6_000) * factor
        slow = durations(values * np.repeat(busy_minutes(rng), 100), BOUNDS)
        errors = np.clip(0.02 * busy_minutes(rng).reshape(PARTS, 5).mean(axis=1) ** 4, 0, 1)
        every = np.full(PARTS, 500.0)
        failed = rng.binomial(500, errors).astype(np.float64)
        return Reading(WINDOW, errors=Counted(failed, every), durations=slow)

    equal = [compare(hour(), hour()).judgement.verdict for _ in range(60)]
    assert sum(verdict is not Verdict.SAME for verdict in equal) <= 4
    faster = [compare(hour(), hour(0.6)).judgement.verdict for _ in range(20)]
    assert sum(verdict is Verdict.BETTER for verdict in faster) >= 18


def test_one_bad_minute_is_no_proof_of_a_change() -> None:
    quiet, burst = np.zeros(PARTS), np.zeros(PARTS)
    burst[5] = 40.0
    every = np.full(PARTS, 100.0)
    lasting = Counted(np.full(PARTS, 40.0 / PARTS), every)
    assert compare_shares(Counted(quiet, every), Counted(burst, every)).p_value > 0.002
    assert compare_shares(Counted(quiet, every), lasting).p_value < 1e-6


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([5, 40, 200]),
    st.sampled_from([0.02, 0.3]),
    st.sampled_from([2.0, 20.0]),
    st.sampled_from([0.1, 0.4]),
)
def test_a_swap_turns_every_verdict_round_and_changes_no_number(
    seed: int, requests: int, errors: float, queries: float, latency: float
) -> None:
    rng = np.random.default_rng(seed)
    one = reading(rng, requests)
    other = reading(rng, 200, errors=errors, queries=queries, latency=latency)
    forth, back = compare(one, other), compare(other, one)
    for a, b in zip(forth.figures, back.figures, strict=True):
        assert b.judgement.verdict is TURNED[a.judgement.verdict], a.spec.name
        assert (b.before, b.after) == (a.after, a.before)
        assert b.judgement.confidence == pytest.approx(a.judgement.confidence, abs=1e-9)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"errors": 0.3}, "error_ratio"),
        ({"hits": 0.5}, "hit_rate"),
        ({"queries": 40.0}, "queries_per_request"),
        ({"latency": 0.4}, "latency_p50"),
        ({"latency": 0.4}, "latency_p95"),
    ],
)
def test_what_got_worse_is_named(changed: dict[str, float], name: str) -> None:
    rng = np.random.default_rng(7)
    compared = compare(reading(rng, 400), reading(rng, 400, **changed))
    assert compared.judgement.verdict is Verdict.WORSE
    assert compared.judgement.confidence > 0.99
    told = verdicts(compared)
    assert told[name] is Verdict.WORSE
    if "latency" not in name:
        assert {n for n, verdict in told.items() if verdict is Verdict.WORSE} == {name}
        assert compared.why.startswith(name.replace("_", " "))


def test_one_figure_that_got_worse_outweighs_another_that_got_better() -> None:
    rng = np.random.default_rng(11)
    compared = compare(reading(rng), reading(rng, queries=2.0, errors=0.4))
    assert verdicts(compared)["queries_per_request"] is Verdict.BETTER
    assert compared.judgement.verdict is Verdict.WORSE


def test_a_finding_is_judged_by_the_figures_of_its_kind() -> None:
    rng = np.random.default_rng(13)
    before, after = reading(rng), reading(rng, queries=2.0, errors=0.4)
    assert compare(before, after, "n_plus_one_query").judgement.verdict is Verdict.BETTER
    assert compare(before, after, "error_regression").judgement.verdict is Verdict.WORSE
    assert compare(before, after, "hit_rate_drop").judgement.verdict is Verdict.SAME
    lag = replace(after, signal=in_order(before.signal.values + 60))
    assert compare(before, lag, "replica_lag").decisive == ("signal",)
    assert compare(before, lag, "replica_lag").judgement.verdict is Verdict.WORSE


def test_missing_requests_are_back_when_there_are_more_of_them() -> None:
    rng = np.random.default_rng(43)
    low = reading(rng)
    usual = replace(low, rates=in_order(low.rates.values * 5), signal=NONE)
    for kind, verdict in (("throughput_drop", Verdict.BETTER), ("error_regression", Verdict.SAME)):
        compared = compare(replace(low, signal=NONE), usual, kind)
        assert compared.judgement.verdict is verdict, kind
    assert compare(usual, low, "throughput_drop").judgement.verdict is Verdict.WORSE


def test_a_replica_that_is_read_more_is_better_and_one_that_is_further_behind_worse() -> None:
    rng = np.random.default_rng(47)
    before = reading(rng)
    after = replace(before, signal=in_order(before.signal.values + 60))
    assert compare(before, after, "replica_underused").judgement.verdict is Verdict.BETTER
    assert compare(after, before, "replica_underused").judgement.verdict is Verdict.WORSE
    assert compare(before, after, "replica_lag").judgement.verdict is Verdict.WORSE


def test_a_slow_statement_of_a_server_is_judged_by_the_time_that_the_server_counts() -> None:
    rng = np.random.default_rng(53)
    before = Reading(WINDOW, signal=in_order(rng.normal(5, 1, 60)))
    after = Reading(WINDOW, signal=in_order(rng.normal(0.5, 0.1, 60)))
    assert compare(before, after, "slow_query").judgement.verdict is Verdict.BETTER


@pytest.mark.parametrize(
    ("kind", "changed", "why"),
    [
        (
            "search_latency",
            {"signal": in_order(np.ones(3))},
            "signal: 60 values before, 3 after; each needs",
        ),
        ("missing_index", {"signal": NONE}, "signal: 60 values before, 0 after; each needs"),
        ("throughput_drop", {"rates": NONE}, "throughput: 60 values before, 0 after"),
        ("hit_rate_drop", {"hits": whole(2, 4)}, "hit rate: 600 gets before, 4 after"),
        (
            "n_plus_one_query",
            {"counts": {}, "wasted_s": in_order(np.ones(7))},
            "wasted seconds per request",
        ),
        (
            "error_regression",
            {"errors": whole(0, 12)},
            "error ratio: 200 requests before, 12 after",
        ),
    ],
)
def test_it_names_the_figure_that_lacks_data(kind: str, changed: dict[str, Any], why: str) -> None:
    rng = np.random.default_rng(59)
    compared = compare(reading(rng), replace(reading(rng), **changed), kind)
    assert compared.judgement.verdict is Verdict.NOT_ENOUGH_DATA
    assert compared.why.startswith(why)


def test_more_or_fewer_visitors_are_neither_better_nor_worse() -> None:
    rng = np.random.default_rng(17)
    quiet = reading(rng)
    busy = replace(quiet, rates=in_order(quiet.rates.values * 5))
    compared = compare(quiet, busy)
    assert verdicts(compared)["throughput"] is Verdict.BETTER
    assert compared.judgement.verdict is Verdict.SAME


def test_a_proven_difference_that_nobody_notices_is_no_difference() -> None:
    rng = np.random.default_rng(19)
    one = reading(rng, 20_000)
    slower = replace(one, durations=Durations(one.durations.bounds_s * 1.05, one.durations.parts))
    assert verdicts(compare(one, slower))["latency_p50"] is Verdict.SAME


@pytest.mark.parametrize("requests", [0, 1, 29])
def test_a_handful_of_requests_proves_nothing(requests: int) -> None:
    rng = np.random.default_rng(23)
    compared = compare(reading(rng), replace(reading(rng, requests, errors=1.0), signal=NONE))
    told = verdicts(compared)
    assert told["error_ratio"] is Verdict.NOT_ENOUGH_DATA
    assert compared.judgement.verdict in {Verdict.NOT_ENOUGH_DATA, Verdict.SAME}
    assert compare(Reading(WINDOW), Reading(WINDOW)).judgement.confidence == 0


def test_a_p95_asks_for_more_than_a_median() -> None:
    rng = np.random.default_rng(29)
    told = verdicts(compare(reading(rng, 50, latency=0.1), reading(rng, 50, latency=2.0)))
    assert told["latency_p50"] is Verdict.WORSE
    assert told["latency_p95"] is Verdict.NOT_ENOUGH_DATA


def test_a_fault_of_a_few_requests_in_a_hundred_is_seen_to_end() -> None:
    rng = np.random.default_rng(31)
    before = replace(
        reading(rng, 240), wasted_s=in_order(np.where(np.arange(240) % 12 == 0, 0.4, 0.0))
    )
    after = replace(reading(rng, 240), wasted_s=in_order(np.zeros(240)))
    assert verdicts(compare(before, after))["wasted_seconds_per_request"] is Verdict.BETTER


def test_buckets_tell_the_same_as_the_durations_they_count() -> None:
    rng = np.random.default_rng(37)
    fast, slow = rng.lognormal(-3, 0.4, 500), rng.lognormal(-1.5, 0.4, 500)
    exact = compare(
        replace(reading(rng), durations=durations(fast)),
        replace(reading(rng), durations=durations(slow)),
    )
    coarse = compare(
        replace(reading(rng), durations=durations(fast, BOUNDS)),
        replace(reading(rng), durations=durations(slow, BOUNDS)),
    )
    for name in ("latency_p50", "latency_p95"):
        assert verdicts(exact)[name] is verdicts(coarse)[name] is Verdict.WORSE


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0.0), (0.5, 0.2), (0.9, 0.36), (1.0, 0.4)], ids=str
)
def test_a_quantile_is_linear_within_a_bucket(share: float, expected: float) -> None:
    known = Durations(np.array([0.4, 1.0, np.inf]), np.array([[10.0, 10.0, 10.0]]))
    assert quantile(known, share) == pytest.approx(expected)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile(Durations(np.array([0.4, np.inf]), np.array([[1.0, 10.0]])), 0.9) == 0.4
    assert quantile(Reading(WINDOW).durations, 0.5) is None
    assert quantile(Durations(np.array([np.inf]), np.array([[10.0]])), 0.5) is None


def test_newcombes_interval_is_the_published_one() -> None:
    # R. G. Newcombe (1998), table II, case (a): 56/70 against 48/80; method 10 at 95 % gives
    # 0.0524 to 0.3339. Ours is at 99.8 %, so it is wider, and has the same centre of mass.
    found = compare_shares(whole(48, 80), whole(56, 70))
    assert found.effect == pytest.approx(0.2)
    assert found.low < 0.0524 < 0.3339 < found.high
    assert found.low > -0.06
    assert 0.005 < found.p_value < 0.02


def test_the_ranks_agree_with_the_definition() -> None:
    rng = np.random.default_rng(41)
    one, other = rng.integers(0, 9, 31).astype(float), rng.integers(2, 9, 23).astype(float)
    pairs = np.sign(other[None, :] - one[:, None])
    assert compare_ranks(in_order(one), in_order(other)).effect == pytest.approx(pairs.mean())


@pytest.mark.parametrize(
    "test",
    [
        lambda: compare_ranks(in_order(np.ones(50)), in_order(np.ones(50))),
        lambda: compare_shares(whole(0, 50), whole(0, 50)),
        lambda: compare_shares(whole(50, 50), whole(50, 50)),
        lambda: compare_shares(whole(0, 0), whole(1, 50)),
        lambda: compare_ranks(NONE, in_order(np.ones(3))),
    ],
    ids=["equal values", "no failures", "all failed", "no events", "an empty sample"],
)
def test_nothing_to_tell_apart_is_told_as_chance(test: Callable[[], Difference]) -> None:
    assert test().p_value == 1.0


def test_the_normal_tail_is_the_tables() -> None:
    assert two_sided(1.959964) == pytest.approx(0.05, abs=1e-6)
    assert apart(1.0, 1.0, ratio=1.0, floor=0.0)
    assert not apart(0.0, 0.4, ratio=1.1, floor=0.5)


def of_routes(rng: np.random.Generator, **routes: tuple[int, float, float]) -> Reading:
    """A service with so many requests of each route, their latency and their queries."""
    parts = {
        route: replace(reading(rng, requests, latency=latency, queries=queries), signal=NONE)
        for route, (requests, latency, queries) in routes.items()
    }
    parts = {
        route: replace(one, durations=durations_in(one.durations)) for route, one in parts.items()
    }
    together = added(parts.values())
    counts = [one.counts["query"] for one in parts.values()]
    wasted = [one.wasted_s for one in parts.values()]
    return replace(
        together, counts={"query": joined(counts)}, wasted_s=joined(wasted), routes=parts
    )


def durations_in(one: Durations) -> Durations:
    return Durations(BOUNDS, one.at_most(BOUNDS))


def joined(values: list[Values]) -> Values:
    return Values(
        np.concatenate([one.values for one in values]),
        np.concatenate([one.parts for one in values]),
    )


def test_more_visits_of_a_slow_page_make_no_page_slower() -> None:
    rng = np.random.default_rng(67)
    before = of_routes(rng, list=(1_800, 0.05, 3), search=(200, 0.6, 30))
    after = of_routes(rng, list=(400, 0.05, 3), search=(1_600, 0.6, 30))
    compared = compare(before, after)
    assert compared.judgement.verdict is Verdict.SAME, compared.why
    assert compared.why.endswith("at one mix of routes, which has changed")
    alone = compare(replace(before, routes={}), replace(after, routes={}))
    assert alone.judgement.verdict is Verdict.WORSE


def test_a_fix_is_seen_though_more_visits_go_to_the_slow_page() -> None:
    rng = np.random.default_rng(71)
    before = of_routes(rng, list=(1_800, 0.05, 30), search=(200, 0.6, 60))
    after = of_routes(rng, list=(400, 0.03, 2), search=(1_600, 0.36, 40))
    told = verdicts(compare(before, after))
    assert told["queries_per_request"] is Verdict.BETTER
    assert told["latency_p50"] is Verdict.BETTER
    assert verdicts(compare(after, before))["latency_p50"] is Verdict.WORSE


def test_windows_of_the_same_mix_or_of_other_routes_are_compared_as_they_are() -> None:
    rng = np.random.default_rng(73)
    one = of_routes(rng, list=(1_000, 0.05, 3), search=(1_000, 0.6, 30))
    assert at_one_mix(one, one)[0] is one
    other = of_routes(rng, cart=(2_000, 0.05, 3))
    assert at_one_mix(one, other) == (one, other)
    assert "mix" not in compare(one, other).why


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=2, max_size=5))
def test_brought_to_one_mix_all_routes_have_one_share_and_no_request_is_made_up(
    numbers: list[tuple[int, int]],
) -> None:
    rng = np.random.default_rng(79)
    sides = [
        of_routes(rng, **{f"r{n}": (pair[side], 0.1, 5) for n, pair in enumerate(numbers)})
        for side in (0, 1)
    ]
    for before, after in zip(sides, at_one_mix(*sides), strict=True):
        assert after.requests == pytest.approx(before.requests)
        assert len(after.wasted_s) <= len(before.wasted_s) + len(numbers)
        assert after.durations.total == pytest.approx(before.requests)
