"""A burn in words: how fast, how many requests, and when the budget is gone."""

from __future__ import annotations

from slos.burn_rate import WindowReading
from slos.definition import Slo
from slos.durations import say_duration
from slos.model import Outlook


def burning(
    slo: Slo, burn: float, long: WindowReading, left: float | None, gone_s: float | None
) -> str:
    """As in `burning 22x over 2 min: 31 of 140 requests failed; budget gone in 1 h 5 min`."""
    pace = f"{burn:,.0f}" if burn >= 100 else f"{burn:.3g}"
    words = f"burning {pace}× over {say_duration(long.window_s)}: "  # times
    if long.bad is not None and long.total is not None:
        verb = "failed" if slo.noun == "requests" else "were bad"
        words += f"{round(long.bad):,} of {round(long.total):,} {slo.noun} {verb}"
    else:
        words += f"{(long.error_ratio or 0.0) * 100:.3g} % failed"
    if left is None:
        return words
    if left <= 0:
        return f"{words}; the budget of {say_duration(slo.window_s)} is spent"
    if gone_s is None:
        return f"{words}; the budget lasts until it begins anew"
    return f"{words}; budget gone in {say_duration(gone_s)}"


def quiet(slo: Slo, period: WindowReading, left: float | None) -> str:
    """Where the objective stands while nothing burns."""
    span = say_duration(slo.window_s)
    if slo.calendar is not None:
        span = f"the {say_duration(period.window_s)} of this period"
    if period.error_ratio is None or left is None:
        return f"no events in {span}: the objective cannot be judged"
    good = (1.0 - period.error_ratio) * 100
    words = f"{good:.6g} % good over {span}, objective {slo.objective * 100:.6g} %"
    if left <= 0:
        return f"{words}; the budget is spent"
    return f"{words}; {left * 100:.3g} % of the budget left"


def ahead(slo: Slo, outlook: Outlook) -> str:
    """As in `at the end of black-friday, at the last day's pace, 41 % of the budget is left`."""
    left = (
        f"{outlook.remaining * 100:.3g} % of the budget is left"
        if outlook.remaining > 0
        else f"the budget is spent {1 - outlook.remaining:.3g} times over"
    )
    return (
        f"at the end of {outlook.event}, at the last day's pace, {left}; of "
        f"{round(outlook.expected_events):,} expected {slo.noun} "
        f"{outlook.allowed_error_ratio * 100:.3g} % may fail"
    )
