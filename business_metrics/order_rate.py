"""Are orders missing? Pure decisions on counts against what was expected.

Significance is the trigger, a drop by half is the severity. A look at a window every few seconds is
many looks a month, so each window's level of significance is set by what a month may cost in false
alarms. The window is the shortest in which a drop by half could be proven at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from business_metrics.significance import MONTH_S, level_of_a_look, lower_tail, upper_tail
from store.model import BoolArray, Float64Array, Int64Array

# Half as long again each time: a drop lies in one of them nearly alone, whenever it began.
WINDOWS_S = (
    *(10, 15, 20, 30, 45, 60, 90, 120, 180),
    *(300, 450, 600, 900, 1_350, 1_800, 2_700, 3_600),
)
# A small shop's night needs longer ones.
LONG_WINDOWS_S = (5_400, 8_100, 12_000, 18_000, 27_000, 40_500)
# Where as many are due, wider windows tell nothing of a large drop that this one does not.
_ENOUGH_ORDERS = 150.0
HALF = 0.5
# A look at a higher level would alarm daily; `unlikely` rests on it.
_MOST_ALPHA = 0.005
# Two and a quarter deviations and more: less is significant at no level up to 10^-4.
_SUSPECT = 5.0
_USUAL_CV = 0.07
_FEWER_ALPHA = 1e-6
_MORE_ALPHA = 1e-4
_GRAVER_ALPHA = 1e-4
_RECOVERY_MIN_EXPECTED = 30.0
_RECOVERY_ALPHA = 1e-3
_RECOVERY_MIN_TAIL = 0.05


@dataclass(frozen=True, slots=True)
class Evidence:
    """Orders seen in a window against those expected; `cv` is how unsure the expectation is."""

    window_s: float
    observed: int
    expected: float
    cv: float

    @property
    def ratio(self) -> float:
        return self.observed / self.expected if self.expected > 0 else 1.0


@dataclass(frozen=True, slots=True)
class OrderVerdict:
    """The decision with its name, and the window that it rests on."""

    breached: bool
    reason: str
    evidence: Evidence | None = None
    chance: float = 1.0


def alpha_for(window_s: float, alpha: float, false_alarms_per_month: float) -> float:
    """The level of significance of one look at a window."""
    return min(alpha, _MOST_ALPHA, level_of_a_look(window_s, false_alarms_per_month))


def windows_for(expected: Callable[[int], float]) -> tuple[int, ...]:
    """The windows to look at, shortest first; those above an hour only as far as orders are few.

    >>> [windows_for(lambda window_s: window_s / 60 * rate)[-1] for rate in (10, 2, 1, 0.01)]
    [3600, 5400, 12000, 40500]
    """
    longer, widest_s = [], WINDOWS_S[-1]
    for window_s in LONG_WINDOWS_S:
        if expected(widest_s) >= _ENOUGH_ORDERS:
            break
        longer.append(window_s)
        widest_s = window_s
    return (*WINDOWS_S, *longer)


def unlikely(observed: int, expected: float, cv: float) -> bool:
    """Whether two deviations and more are missing: less is not significant at any level in use.

    Cheap, to pass over most looks.
    """
    short = expected - observed
    return short > 0 and short * short > 4 * (expected + (cv * expected) ** 2)


def suspicious(due: Float64Array, seen: Int64Array, cv: float) -> BoolArray:
    """In which rows of windows any is so many deviations short that it could be significant."""
    short = due - seen
    least = due + (cv * due) ** 2
    found: BoolArray = np.any((short > 0) & (short * short > _SUSPECT * least), axis=1)
    return found


def provable(evidence: Evidence, alpha: float) -> bool:
    """Whether a drop by half would be significant in this window.

    >>> [provable(Evidence(300, 0, mean, 0.0), 1e-4) for mean in (46.0, 47.0)]
    [False, True]
    """
    return lower_tail(HALF * evidence.expected, evidence.expected, evidence.cv) < alpha


def judge(
    windows: Sequence[Evidence], gap: Evidence | None, alpha: float, false_alarms_per_month: float
) -> OrderVerdict:
    """Whether orders are missing.

    Args:
        windows: The windows that end now, shortest first.
        gap: The time since the latest order, with nothing observed in it.
        alpha: The level of significance at most.
        false_alarms_per_month: What the windows together may cost, and the gap as much again.
    """
    if gap is not None and gap.expected > 0 and gap.window_s > 0:
        orders_a_month = gap.expected / gap.window_s * MONTH_S
        level = min(alpha, false_alarms_per_month / max(orders_a_month, 1.0))
        chance = lower_tail(0, gap.expected, gap.cv)
        if chance < level:
            return OrderVerdict(breached=True, reason="no_orders", evidence=gap, chance=chance)
    deciding: Evidence | None = None
    for evidence in windows:
        level = alpha_for(evidence.window_s, alpha, false_alarms_per_month)
        if lower_tail(0, evidence.expected, evidence.cv) >= level:
            continue
        if unlikely(evidence.observed, evidence.expected, evidence.cv):
            chance = lower_tail(evidence.observed, evidence.expected, evidence.cv)
            if chance < level:
                return OrderVerdict(
                    breached=True, reason="orders_missing", evidence=evidence, chance=chance
                )
        # Shown is the shortest window in which a drop by half could be proven, or else the widest.
        if deciding is None or not provable(deciding, level):
            deciding = evidence
    if deciding is not None:
        return OrderVerdict(breached=False, reason="as_expected", evidence=deciding)
    widest = windows[-1] if windows else None
    return OrderVerdict(breached=False, reason="too_few_orders_to_judge", evidence=widest)


def judge_below_usual(
    windows: Sequence[Evidence], gap: Evidence, alpha: float, false_alarms_per_month: float
) -> OrderVerdict:
    """Whether fewer orders came than on the least of usual days, which no promotion's end explains.

    What is usual is known less surely than today's level: the windows are judged more strictly.
    """
    return judge(windows, gap, min(alpha, _FEWER_ALPHA), false_alarms_per_month)


def widest(
    windows: Sequence[Evidence], alpha: float, false_alarms_per_month: float
) -> Evidence | None:
    """The widest window in which orders are missing, or None."""
    for evidence in reversed(windows):
        level = alpha_for(evidence.window_s, alpha, false_alarms_per_month)
        if (
            unlikely(evidence.observed, evidence.expected, evidence.cv)
            and lower_tail(evidence.observed, evidence.expected, evidence.cv) < level
        ):
            return evidence
    return None


def back_to_usual(since_onset: Evidence, raised: float, above_usual: float) -> bool:
    """Whether a drop from an unusual height may be the end of a promotion that nobody announced.

    It may when what came since the drop began is what a usual day brings: not provably fewer, which
    is an outage, and not provably more, which is a drop within the promotion.

    Args:
        since_onset: What came since the drop began, against what was expected at that height.
        raised: How many times the least that is usual was expected.
        above_usual: How many times the usual was expected.
    """
    if raised <= 1:
        return False
    cv = math.hypot(since_onset.cv, _USUAL_CV)
    if lower_tail(since_onset.observed, since_onset.expected / raised, cv) < _FEWER_ALPHA:
        return False
    usual = since_onset.expected / above_usual
    return upper_tail(since_onset.observed, usual, cv) >= _MORE_ALPHA


def recovered(recent: Sequence[Evidence], depth: float) -> Evidence | None:
    """The window that proves that orders are back, or None.

    Both must hold: such a count is next to impossible if the drop still lasted, and it is nothing
    unusual for a healthy shop. So a breach ends once, and not at the first lucky minute.

    Args:
        recent: Windows since the breach began that end now, shortest first.
        depth: The share of expected orders that was seen during the breach.
    """
    still = min(max(depth, 0.05), 0.7)
    for evidence in recent:
        if evidence.expected < _RECOVERY_MIN_EXPECTED:
            continue
        if lower_tail(evidence.observed, evidence.expected, evidence.cv) <= _RECOVERY_MIN_TAIL:
            return None
        dropped = still * evidence.expected
        if upper_tail(evidence.observed, dropped, evidence.cv) < _RECOVERY_ALPHA:
            return evidence
    return None


def severity(depth: float) -> str:
    """A drop by half or more pages; a smaller one, though proven, is a ticket."""
    return "page" if depth <= HALF else "ticket"


def graver(evidence: Evidence) -> bool:
    """Whether what began as a smaller drop is proven to be one by more than half.

    A short window holds that few by chance, sooner or later: it is looked at every few seconds.
    """
    return lower_tail(evidence.observed, HALF * evidence.expected, 0.0) < _GRAVER_ALPHA


def in_words(verdict: OrderVerdict) -> str:
    """The decision in a sentence for people.

    >>> in_words(OrderVerdict(True, "no_orders", Evidence(41, 0, 41, 0.0), 1.5e-17))
    '0 orders in the last 41 s, 41 expected; chance of that by accident: 1 in 10^17'
    """
    evidence = verdict.evidence
    if evidence is None or evidence.window_s <= 0:
        return _WITHOUT_COUNTS.get(verdict.reason, "not judged at this moment")
    orders = "order" if evidence.observed == 1 else "orders"
    counts = (
        f"{evidence.observed:,} {orders} in the last {_span(evidence.window_s)}, "
        f"{_about(evidence.expected)} expected"
    )
    if verdict.reason in _SIGNIFICANT:
        return f"{counts}; chance of that by accident: {_chance(verdict.chance)}"
    return counts + _REMARKS.get(verdict.reason, "")


_SIGNIFICANT = frozenset({"no_orders", "orders_missing"})
_WITHOUT_COUNTS = {
    "no_history_yet": "too few orders seen so far to know what to expect",
    "waiting_for_first_event": "waiting for the first event since collecting began",
    "just_started": "collecting has just begun; not judged yet",
    "too_few_orders_to_judge": "too few orders are expected to judge",
}
_REMARKS = {
    "orders_are_back": "; orders are back",
    "orders_not_yet_back": "; orders are not back yet",
    "too_few_orders_to_judge": "; too few are expected to judge",
    "back_to_usual": "; fewer than in the last hours, as many as usual",
    "just_started": "; collecting has just begun, so not judged yet",
}


def _span(window_s: float) -> str:
    if window_s < 120:
        return f"{window_s:.0f} s"
    if window_s < 7_200:
        return f"{window_s / 60:.0f} min"
    return f"{window_s / 3_600:.1f} h"


def _about(orders: float) -> str:
    return f"{orders:,.0f}" if orders >= 10 else f"{orders:.1f}"


def _chance(chance: float) -> str:
    if chance <= 0:
        return "less than 1 in 10^300"
    power = -math.log10(chance)
    return f"1 in {1 / chance:,.0f}" if power < 5.5 else f"1 in 10^{power:.0f}"
