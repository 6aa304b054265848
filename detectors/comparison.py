"""Two windows of one route compared figure by figure: did a change help, harm, or do nothing?

Each figure is judged by `detectors.two_samples` and must be apart by so much that somebody would
care (`FIGURES`). The whole is `worse` when any figure that decides is worse, else `better` when
one is better, else `same`. Throughput decides nothing, people come and go; save of a finding that
is about it.

Of a finding, only the figures decide that its kind is about: an N+1 is fixed when the queries of a
request are fewer, whatever the latency did meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from detectors.readings import Durations, Reading, in_order
from detectors.route_mix import at_one_mix
from detectors.two_samples import (
    UNKNOWN,
    Counted,
    Difference,
    Judgement,
    Values,
    Verdict,
    apart,
    compare_ranks,
    compare_shares,
    decide,
)

MIN_EVENTS = 30
"""Requests, gets or sampled requests that each window needs."""
_MIN_STEPS = 8
_DELTA_MARGIN = 0.147  # below it Cliff's delta is negligible (J. Romano et al., 2006)
_TAIL_EVENTS = 100  # five of them lie above the p95


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """A figure, and when two of it are so far apart that somebody would care.

    Attributes:
        unit: `1` for counts and ratios.
        lower: Less is better.
        ratio: The larger is so many times the smaller, or more.
        floor: And they are apart by so much, in the figure's own unit.
        decides: It counts for the whole.
        events: What its samples are.
        least: So many samples each window needs.
    """

    name: str
    unit: str
    lower: bool
    ratio: float
    floor: float
    decides: bool = True
    events: str = "requests"
    least: int = MIN_EVENTS


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure before and after; None where it is not known.

    Attributes:
        samples: How many events or requests each side stands on.
    """

    spec: FigureSpec
    before: float | None
    after: float | None
    samples: tuple[int, int]
    judgement: Judgement


Judge = Callable[[FigureSpec, Reading, Reading], Compared]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two windows compared.

    Attributes:
        judgement: Of the whole.
        why: The figure that decided, in words.
        decisive: Names of the figures that count for the whole.
    """

    before: Reading
    after: Reading
    figures: tuple[Compared, ...]
    judgement: Judgement
    why: str
    decisive: tuple[str, ...]


_SAMPLED = "sampled requests"
_VALUES = "values"


def _per_request(name: str) -> FigureSpec:
    return FigureSpec(name, "1", lower=True, ratio=1.1, floor=0.5, events=_SAMPLED)


_QUERIES = _per_request("queries_per_request")
_CALLS = _per_request("calls_per_request")
_COMMANDS = _per_request("cache_commands_per_request")
_WASTED = FigureSpec(
    "wasted_seconds_per_request", "seconds", lower=True, ratio=1.1, floor=0.001, events=_SAMPLED
)
_P50 = FigureSpec("latency_p50", "seconds", lower=True, ratio=1.1, floor=0.002)
_P95 = FigureSpec("latency_p95", "seconds", lower=True, ratio=1.1, floor=0.005, least=_TAIL_EVENTS)
_ERRORS = FigureSpec("error_ratio", "ratio", lower=True, ratio=1.1, floor=0.005)
_HITS = FigureSpec("hit_rate", "ratio", lower=False, ratio=1.0, floor=0.02, events="gets")
_RATE = FigureSpec(
    "throughput",
    "requests/s",
    lower=False,
    ratio=1.2,
    floor=0.01,
    decides=False,
    events=_VALUES,
    least=_MIN_STEPS,
)
_SIGNAL = FigureSpec(
    "signal", "1", lower=True, ratio=1.1, floor=0.0, events=_VALUES, least=_MIN_STEPS
)
_MORE_IS_BETTER = replace(_SIGNAL, lower=False)
FIGURES = (_QUERIES, _CALLS, _COMMANDS, _P50, _P95, _ERRORS, _HITS, _WASTED, _SIGNAL, _RATE)

# Which figures prove that a finding of a kind is gone; of other kinds its own series does.
_OF_KIND: Mapping[str, tuple[FigureSpec, ...]] = {
    "n_plus_one_query": (_QUERIES, _WASTED),
    "n_plus_one_call": (_CALLS, _WASTED),
    "n_plus_one_cache": (_COMMANDS, _WASTED),
    "repeated_query": (_QUERIES, _WASTED),
    "paginated_loop": (_QUERIES, _CALLS, _WASTED),
    "hit_rate_drop": (_HITS,),
    "error_regression": (_ERRORS,),
    "latency_regression": (_P95, _P50),
    "throughput_drop": (_RATE,),
    "replica_underused": (_MORE_IS_BETTER,),
    "cache_stampede": (_QUERIES, _WASTED, _P95),
    **dict.fromkeys(
        ("blocking_call", "pool_wait", "consecutive_queries", "consecutive_calls"),
        (_WASTED, _P95),
    ),
    # Of a route by its traces, of a server's statement by the time that the server counts.
    "slow_query": (_WASTED, _P95, _SIGNAL),
}


def compare(before: Reading, after: Reading, kind: str = "") -> Comparison:
    """Compare two readings of one subject; `kind` is that of the finding it is about, if any."""
    decisive = {spec.name: spec for spec in _decisive(kind)}
    sides = at_one_mix(before, after)
    judged = [_compared(decisive.get(spec.name, spec), *sides) for spec in FIGURES]
    figures = tuple(figure for figure in judged if _is_known(figure))
    deciding = _deciding([figure for figure in figures if figure.spec.name in decisive])
    judgement = deciding.judgement if deciding else UNKNOWN
    why = _why(deciding) if deciding else _lacking(judged, decisive)
    if sides[0] is not before or sides[1] is not after:
        why += "; at one mix of routes, which has changed"
    return Comparison(before, after, figures, judgement, why, tuple(decisive))


def _is_known(figure: Compared) -> bool:
    """There is a value; of spans that no request makes, zero is none."""
    if figure.spec in (_CALLS, _COMMANDS):
        return bool(figure.before or figure.after)
    return figure.before is not None or figure.after is not None


def _decisive(kind: str) -> tuple[FigureSpec, ...]:
    if not kind:
        return tuple(spec for spec in FIGURES if spec.decides)
    return _OF_KIND.get(kind, (_SIGNAL,))


def _deciding(counted: list[Compared]) -> Compared | None:
    """The figure that decides the whole.

    Any that is worse, else any that is better, else the least sure of those that stayed.
    """
    for verdict in (Verdict.WORSE, Verdict.BETTER):
        found = [one for one in counted if one.judgement.verdict is verdict]
        if found:
            return max(found, key=lambda one: (one.judgement.confidence, _effect(one)))
    same = [one for one in counted if one.judgement.verdict is Verdict.SAME]
    return min(same, key=lambda one: one.judgement.confidence) if same else None


def _effect(one: Compared) -> float:
    before, after = one.before or 0.0, one.after or 0.0
    largest = max(abs(before), abs(after))
    return abs(after - before) / largest if largest else 0.0


def _lacking(judged: list[Compared], decisive: Collection[str]) -> str:
    """The figure that lacks the least, and what it lacks."""
    counted = (one for one in judged if one.spec.name in decisive)
    nearest = max(counted, key=lambda one: min(one.samples) / one.spec.least)
    spec, (before, after) = nearest.spec, nearest.samples
    name = spec.name.replace("_", " ")
    return f"{name}: {before} {spec.events} before, {after} after; each needs at least {spec.least}"


def _why(deciding: Compared) -> str:
    name = deciding.spec.name.replace("_", " ")
    verdict = deciding.judgement.verdict
    told = f"{name} {_shown(deciding.before, deciding.spec)} → "
    told += _shown(deciding.after, deciding.spec)
    return f"{told}: {'no proven difference' if verdict is Verdict.SAME else verdict.value}"


def _shown(value: float | None, spec: FigureSpec) -> str:
    if value is None:
        return "unknown"
    if spec.unit == "ratio":
        return f"{value:.1%}"
    if spec.unit == "seconds":
        return f"{value * 1_000:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.3g}"


def _compared(spec: FigureSpec, before: Reading, after: Reading) -> Compared:
    return _JUDGES[spec.name](spec, before, after)


def _counts(name: str) -> Judge:
    def judge(spec: FigureSpec, before: Reading, after: Reading) -> Compared:
        empty = in_order(np.empty(0))
        sides = (before.counts.get(name, empty), after.counts.get(name, empty))
        return _ranks(spec, *sides)

    return judge


def _ranks(spec: FigureSpec, before: Values, after: Values) -> Compared:
    """The means are shown, the ranks are judged: one slow request must not decide."""
    samples = (len(before), len(after))
    means = tuple(float(side.values.mean()) if len(side) else None for side in (before, after))
    if min(samples) < spec.least or means[0] is None or means[1] is None:
        return Compared(spec, means[0], means[1], samples, UNKNOWN)
    found = compare_ranks(before, after)
    agree = (means[1] - means[0]) * found.effect > 0
    relevant = agree and apart(means[0], means[1], ratio=spec.ratio, floor=spec.floor)
    judged = decide(found, margin=_DELTA_MARGIN, relevant=relevant, lower=spec.lower)
    return Compared(spec, means[0], means[1], samples, judged)


def _share(spec: FigureSpec, before: Counted, after: Counted) -> Compared:
    samples = (round(before.total), round(after.total))
    shares = (before.share, after.share)
    if min(samples) < spec.least or shares[0] is None or shares[1] is None:
        return Compared(spec, shares[0], shares[1], samples, UNKNOWN)
    relevant = apart(shares[0], shares[1], ratio=spec.ratio, floor=spec.floor)
    found = compare_shares(before, after)
    judged = decide(found, margin=max(spec.floor, 0.01), relevant=relevant, lower=spec.lower)
    return Compared(spec, shares[0], shares[1], samples, judged)


def _quantile(spec: FigureSpec, before: Durations, after: Durations, share: float) -> Compared:
    samples = (round(before.total), round(after.total))
    known = tuple(quantile(durations, share) for durations in (before, after))
    if min(samples) < spec.least or known[0] is None or known[1] is None:
        return Compared(spec, known[0], known[1], samples, UNKNOWN)
    found = _above_common_quantile(before, after, share)
    agree = (known[1] - known[0]) * found.effect > 0
    relevant = agree and apart(known[0], known[1], ratio=spec.ratio, floor=spec.floor)
    judged = decide(found, margin=(1 - share) / 2, relevant=relevant, lower=spec.lower)
    return Compared(spec, known[0], known[1], samples, judged)


def _above_common_quantile(before: Durations, after: Durations, share: float) -> Difference:
    """Mood's test: which part of each lies above the quantile of both.

    Each window weighs the same, so that a busy one does not hide the other.
    """
    bounds = np.union1d(before.bounds_s, after.bounds_s)
    at_most = [durations.at_most(bounds) for durations in (before, after)]
    totals = (before.total, after.total)
    below = [rows.sum(axis=0) / total for rows, total in zip(at_most, totals, strict=True)]
    # Among coarse buckets the nearest in odds: nearly all lies below a bound far in the tail.
    middle = np.clip((below[0] + below[1]) / 2, 1e-9, 1 - 1e-9)
    place = int(np.argmin(np.abs(np.log(middle / (1 - middle)) - np.log(share / (1 - share)))))
    sides = [
        Counted(durations.parts[:, -1] - rows[:, place], durations.parts[:, -1])
        for durations, rows in zip((before, after), at_most, strict=True)
    ]
    return compare_shares(*sides)


def quantile(durations: Durations, share: float) -> float | None:
    """The duration below which this share lies, linear within a bucket; None where none tells."""
    if durations.total <= 0:
        return None
    rank, counts = share * durations.total, durations.counts
    place = int(np.searchsorted(counts, rank))
    high = float(durations.bounds_s[place])
    below = float(counts[place - 1]) if place else 0.0
    low = float(durations.bounds_s[place - 1]) if place else 0.0
    if not np.isfinite(high):
        return low if place else None
    inside = float(counts[place]) - below
    return low + (high - low) * (rank - below) / inside if inside > 0 else high


_JUDGES: Mapping[str, Judge] = {
    _QUERIES.name: _counts("query"),
    _CALLS.name: _counts("call"),
    _COMMANDS.name: _counts("cache"),
    _WASTED.name: lambda spec, a, b: _ranks(spec, a.wasted_s, b.wasted_s),
    _P50.name: lambda spec, a, b: _quantile(spec, a.durations, b.durations, 0.5),
    _P95.name: lambda spec, a, b: _quantile(spec, a.durations, b.durations, 0.95),
    _ERRORS.name: lambda spec, a, b: _share(spec, a.errors, b.errors),
    _HITS.name: lambda spec, a, b: _share(spec, a.hits, b.hits),
    _RATE.name: lambda spec, a, b: _ranks(spec, a.rates, b.rates),
    _SIGNAL.name: lambda spec, a, b: _ranks(spec, a.signal, b.signal),
}
