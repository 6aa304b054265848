"""The arithmetic of burn rates: pure, and true for any objective, period and window.

A burn rate says how many times faster than allowed the error budget is spent: at 1 the budget ends
with the period. Formulas: The Site Reliability Workbook, chapter 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# One-sided 99 %: how sure a ratio of few events must be.
_Z_99 = 2.326347874
_MIN_BAD_EVENTS = 2
# A period's events are an estimate: windows that are not read anew may be 1/720 too long.
_SLACK = 0.005


@dataclass(frozen=True, slots=True)
class Tier:
    """Fire `severity` when `budget` (0 to 1) of the period's budget goes within the long window.

    Attributes:
        factor: The burn rate that does so; see `tier_factor`.
    """

    severity: str
    long_s: int
    short_s: int
    budget: float
    factor: float


@dataclass(frozen=True, slots=True)
class WindowReading:
    """What one window held. `error_ratio` None is no data; without counts the SLI is a bare ratio.

    Attributes:
        window_s: The window that was read.
        bad: Failed events, when they can be counted.
        total: All events, when they can be counted.
    """

    window_s: int
    error_ratio: float | None = None
    bad: float | None = None
    total: float | None = None

    @classmethod
    def of_counts(cls, window_s: int, bad: float, total: float) -> WindowReading:
        """Event-weighted: bad by total. A window without any event has no ratio."""
        bad = min(max(bad, 0.0), total)
        return cls(window_s, bad / total if total > 0 else None, bad, total)


@dataclass(frozen=True, slots=True)
class TierDecision:
    """Whether a tier fires, and the named reason. `firing` None: it cannot be told."""

    firing: bool | None
    reason: str


def burn_rate(error_ratio: float, objective: float) -> float:
    """How many times faster than allowed.

    >>> round(burn_rate(0.0144, 0.999), 6)
    14.4
    """
    return error_ratio / (1.0 - objective)


def tier_factor(budget: float, period_s: int, long_s: int) -> float:
    """The burn rate that spends `budget` of a period within the long window.

    >>> round(tier_factor(0.02, 30 * 86_400, 3_600), 6)
    14.4
    """
    return budget * period_s / long_s


def max_burn_rate(objective: float) -> float:
    """The burn rate when everything fails; none can be higher."""
    return 1.0 / (1.0 - objective)


def infeasible_reason(tier: Tier, objective: float) -> str:
    """Why a tier can never fire, with the sum; empty when it can."""
    highest = max_burn_rate(objective)
    if tier.factor < highest * (1 - 1e-9):
        return ""
    return (
        f"can never fire: it needs a burn rate above {tier.factor:.4g}, but when everything fails "
        f"the burn rate is 1/(1-{objective:.6g}) = {highest:.4g}"
    )


def detection_time_s(tier: Tier, objective: float, error_ratio: float) -> float | None:
    """Seconds from a sudden, constant error ratio to firing; None when it never fires.

    >>> from slos.burn_rate import Tier
    >>> round(detection_time_s(Tier("page", 3600, 300, 0.02, 14.4), 0.999, 1.0), 2)
    51.84
    """
    burn = burn_rate(error_ratio, objective)
    if burn <= tier.factor:
        return None
    return max(tier.factor / burn * tier.long_s, tier.factor / burn * tier.short_s)


def exhaustion_s(remaining: float, period_s: int, burn: float) -> float | None:
    """Seconds until the rest of the budget is gone at this burn rate; None when it lasts."""
    if burn <= 0 or remaining <= 0:
        return None
    return remaining * period_s / burn


def period_events(period_s: int, readings: list[WindowReading]) -> float:
    """Events of a whole period: the most that any window, scaled up, speaks for.

    A young series holds few events; its period must not look smaller than it will be.
    """
    return max(
        (r.total * period_s / r.window_s for r in readings if r.total is not None), default=0.0
    )


def budget_share(bad: float, objective: float, events: float) -> float:
    """The share of a period's error budget that these bad events took."""
    return bad / ((1.0 - objective) * events) if events > 0 else 0.0


def wilson_lower(bad: float, total: float, z: float = _Z_99) -> float:
    """The lower bound of a ratio (Wilson score): the ratio is above it with 99 % certainty.

    >>> round(wilson_lower(5, 5), 2), round(wilson_lower(0, 5), 2)
    (0.48, 0.0)
    """
    if total <= 0:
        return 0.0
    share, square = bad / total, z * z
    centre = share + square / (2 * total)
    spread = z * math.sqrt(max(share * (1 - share), 0.0) / total + square / (4 * total * total))
    return max((centre - spread) / (1 + square / total), 0.0)


def decide_tier(
    tier: Tier, objective: float, long: WindowReading, short: WindowReading, events: float
) -> TierDecision:
    """Whether a tier fires: both windows above the factor, and enough bad events to believe it.

    With little traffic a ratio of few events says little. Then either the bad events themselves
    took the tier's share of the period's budget (the count form), or the ratio is proven above the
    threshold. There is no floor on traffic: five failures out of five at night do count.

    Args:
        tier: The tier.
        objective: The share of events that should be good, from 0 to 1.
        long: The long window.
        short: The short window.
        events: Events of a whole period, see `period_events`.
    """
    if long.error_ratio is None or short.error_ratio is None:
        return TierDecision(None, "no_data")
    for name, reading in (("long", long), ("short", short)):
        if burn_rate(reading.error_ratio or 0.0, objective) <= tier.factor:
            return TierDecision(firing=False, reason=f"{name}_window_below_factor")
    return _believe(tier, objective, long, events)


def _believe(tier: Tier, objective: float, long: WindowReading, events: float) -> TierDecision:
    """Whether the long window, which is above the factor, holds enough to say so."""
    if long.bad is None or long.total is None:
        return TierDecision(firing=True, reason="both_windows_above_factor")
    if round(long.bad) < _MIN_BAD_EVENTS:
        return TierDecision(firing=False, reason="fewer_than_two_bad_events")
    if budget_share(long.bad, objective, events) >= tier.budget * (1 - _SLACK):
        return TierDecision(firing=True, reason="both_windows_above_factor")
    if wilson_lower(long.bad, long.total) > tier.factor * (1.0 - objective):
        return TierDecision(firing=True, reason="few_events_but_proven")
    return TierDecision(firing=False, reason="too_few_events_to_prove")
