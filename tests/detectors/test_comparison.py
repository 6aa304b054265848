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
from detectors.two_samples import Verdict, apart, compare_ranks, compare_shares, two_sided
from detectors.window_reading import Durations, Reading, Window

WINDOW = Window(0, 3_600_000)
TURNED = {
    Verdict.BETTER: Verdict.WORSE,
    Verdict.WORSE: Verdict.BETTER,
    Verdict.SAME: Verdict.SAME,
    Verdict.NOT_ENOUGH_DATA: Verdict.NOT_ENOUGH_DATA,
}


def durations(values_s: np.ndarray) -> Durations:
    ordered = np.sort(values_s)
    return Durations(ordered, np.arange(1, len(ordered) + 1, dtype=np.float64))


def reading(rng: np.random.Generator, requests: int = 200, **changed: float) -> Reading:
    """A window of a route whose figures are drawn from fixed distributions."""
    chances = {"errors": 0.02, "hits": 0.9, "queries": 20.0, "latency": 0.1, **changed}
    gets = requests * 3
    return Reading(
        window=WINDOW,
        requests=requests,
        errors=float(rng.binomial(requests, chances["errors"])),
        rates=rng.poisson(requests / 60, 60).astype(np.float64),
        durations=durations(rng.lognormal(np.log(chances["latency"]), 0.6, requests)),
        counts={"query": rng.poisson(chances["queries"], requests).astype(np.float64)},
        wasted_s=rng.exponential(0.02, requests) * (rng.random(requests) < 0.5),
        hits=float(rng.binomial(gets, chances["hits"])),
        gets=gets,
        signal=rng.normal(5, 1, 60),
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
    compared = compare(reading(rng), reading(rng, 200, **changed))
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
    lag = replace(after, signal=before.signal + 60)
    assert compare(before, lag, "replica_lag").decisive == ("signal",)
    assert compare(before, lag, "replica_lag").judgement.verdict is Verdict.WORSE


def test_missing_requests_are_back_when_there_are_more_of_them() -> None:
    rng = np.random.default_rng(43)
    low = reading(rng)
    usual = replace(low, rates=low.rates * 5, signal=np.empty(0))
    for kind, verdict in (("throughput_drop", Verdict.BETTER), ("error_regression", Verdict.SAME)):
        compared = compare(replace(low, signal=np.empty(0)), usual, kind)
        assert compared.judgement.verdict is verdict, kind
    assert compare(usual, low, "throughput_drop").judgement.verdict is Verdict.WORSE


def test_a_replica_that_is_read_more_is_better_and_one_that_is_further_behind_worse() -> None:
    rng = np.random.default_rng(47)
    before = reading(rng)
    after = replace(before, signal=before.signal + 60)
    assert compare(before, after, "replica_underused").judgement.verdict is Verdict.BETTER
    assert compare(after, before, "replica_underused").judgement.verdict is Verdict.WORSE
    assert compare(before, after, "replica_lag").judgement.verdict is Verdict.WORSE


def test_a_slow_statement_of_a_server_is_judged_by_the_time_that_the_server_counts() -> None:
    rng = np.random.default_rng(53)
    before = Reading(WINDOW, signal=rng.normal(5, 1, 60))
    after = Reading(WINDOW, signal=rng.normal(0.5, 0.1, 60))
    assert compare(before, after, "slow_query").judgement.verdict is Verdict.BETTER


@pytest.mark.parametrize(
    ("kind", "changed", "why"),
    [
        ("search_latency", {"signal": np.ones(3)}, "signal: 60 values before, 3 after; each needs"),
        ("missing_index", {"signal": np.empty(0)}, "signal: 60 values before, 0 after; each needs"),
        ("throughput_drop", {"rates": np.empty(0)}, "throughput: 60 values before, 0 after"),
        ("hit_rate_drop", {"gets": 4.0}, "hit rate: 600 gets before, 4 after"),
        ("n_plus_one_query", {"counts": {}, "wasted_s": np.ones(7)}, "wasted seconds per request"),
        ("error_regression", {"requests": 12.0}, "error ratio: 200 requests before, 12 after"),
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
    busy = replace(quiet, rates=quiet.rates * 5)
    compared = compare(quiet, busy)
    assert verdicts(compared)["throughput"] is Verdict.BETTER
    assert compared.judgement.verdict is Verdict.SAME


def test_a_proven_difference_that_nobody_notices_is_no_difference() -> None:
    rng = np.random.default_rng(19)
    one = reading(rng, 20_000)
    slower = replace(one, durations=Durations(one.durations.bounds_s * 1.05, one.durations.counts))
    assert verdicts(compare(one, slower))["latency_p50"] is Verdict.SAME


@pytest.mark.parametrize("requests", [0, 1, 29])
def test_a_handful_of_requests_proves_nothing(requests: int) -> None:
    rng = np.random.default_rng(23)
    compared = compare(
        reading(rng), replace(reading(rng, requests, errors=1.0), signal=np.empty(0))
    )
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
    before = replace(reading(rng, 240), wasted_s=np.where(np.arange(240) % 12 == 0, 0.4, 0.0))
    after = replace(reading(rng, 240), wasted_s=np.zeros(240))
    assert verdicts(compare(before, after))["wasted_seconds_per_request"] is Verdict.BETTER


def test_buckets_tell_the_same_as_the_durations_they_count() -> None:
    rng = np.random.default_rng(37)
    bounds = np.array([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, np.inf])

    def bucketed(values: np.ndarray) -> Durations:
        return Durations(bounds, np.array([(values <= bound).sum() for bound in bounds], float))

    fast, slow = rng.lognormal(-3, 0.4, 500), rng.lognormal(-1.5, 0.4, 500)
    exact = compare(
        replace(reading(rng), durations=durations(fast)),
        replace(reading(rng), durations=durations(slow)),
    )
    coarse = compare(
        replace(reading(rng), durations=bucketed(fast)),
        replace(reading(rng), durations=bucketed(slow)),
    )
    for name in ("latency_p50", "latency_p95"):
        assert verdicts(exact)[name] is verdicts(coarse)[name] is Verdict.WORSE


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0.0), (0.5, 0.2), (0.9, 0.36), (1.0, 0.4)], ids=str
)
def test_a_quantile_is_linear_within_a_bucket(share: float, expected: float) -> None:
    known = Durations(np.array([0.4, 1.0, np.inf]), np.array([10.0, 10.0, 10.0]))
    assert quantile(known, share) == pytest.approx(expected)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile(Durations(np.array([0.4, np.inf]), np.array([1.0, 10.0])), 0.9) == 0.4
    assert quantile(Durations(np.empty(0), np.empty(0)), 0.5) is None


def test_newcombes_interval_is_the_published_one() -> None:
    # R. G. Newcombe (1998), table II, case (a): 56/70 against 48/80; method 10 at 95 % gives
    # 0.0524 to 0.3339. Ours is at 99.8 %, so it is wider, and has the same centre of mass.
    found = compare_shares(48, 80, 56, 70)
    assert found.effect == pytest.approx(0.2)
    assert found.low < 0.0524 < 0.3339 < found.high
    assert found.low > -0.06
    assert 0.005 < found.p_value < 0.02


def test_the_ranks_agree_with_the_definition() -> None:
    rng = np.random.default_rng(41)
    one, other = rng.integers(0, 9, 31).astype(float), rng.integers(2, 9, 23).astype(float)
    pairs = np.sign(other[None, :] - one[:, None])
    assert compare_ranks(one, other).effect == pytest.approx(pairs.mean())


@pytest.mark.parametrize(
    "test",
    [
        lambda: compare_ranks(np.ones(50), np.ones(50)),
        lambda: compare_shares(0, 50, 0, 50),
        lambda: compare_shares(50, 50, 50, 50),
        lambda: compare_shares(0, 0, 1, 50),
        lambda: compare_ranks(np.empty(0), np.ones(3)),
    ],
    ids=["equal values", "no failures", "all failed", "no events", "an empty sample"],
)
def test_nothing_to_tell_apart_is_told_as_chance(test: Callable[[], object]) -> None:
    assert test().p_value == 1.0  # type: ignore[attr-defined]


def test_the_normal_tail_is_the_tables() -> None:
    assert two_sided(1.959964) == pytest.approx(0.05, abs=1e-6)
    assert apart(1.0, 1.0, ratio=1.0, floor=0.0)
    assert not apart(0.0, 0.4, ratio=1.1, floor=0.5)
