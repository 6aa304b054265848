"""Time slices: minutes, say, are good or bad, and the budget is of minutes instead of requests.

OpenSLO's budgeting methods. `Timeslices`: a slice is good when its ratio of good events reaches
the slice's target. `RatioTimeslices`: each slice counts with its ratio, so a quiet minute weighs as
much as a busy one. Slices lie on the clock (multiples of their length since the epoch). Only whole
ones count, and only those in which anything was measured.
"""

from __future__ import annotations

from slos.definition import WINDOW, EventSli, RatioSli, render
from slos.durations import format_duration

METHODS = ("Timeslices", "RatioTimeslices")
# A period has at most so many: they are computed from the samples.
MAX_SLICES = 50_000
# What makes a slice bad, by the operator that makes it good.
_BAD = {"gte": "<", "gt": "<="}
OPERATORS = tuple(_BAD)


def sliced(sli: EventSli | RatioSli, slice_s: int, target: float | None, op: str) -> EventSli:
    """The same indicator, counted in slices.

    Args:
        sli: What is measured within a slice.
        slice_s: A slice's length.
        target: Good events of a good slice, 0 to 1; None lets each slice count with its ratio.
        op: `gte` or `gt`: how a slice's ratio is compared with the target.
    """
    # Between 0 and 1; slices without events have no ratio and drop out.
    good = f"(clamp({_good_ratio(sli, slice_s)}, 0, 1) >= 0)"
    bad = f"1 - {good}" if target is None else f"{good} {_BAD[op]} bool {target:.12g}"
    steps = f"[{WINDOW}:{format_duration(slice_s)}]"
    return EventSli(
        query=f"sum_over_time(({bad}){steps})",
        total_query=f"count_over_time({good}{steps})",
        counted=True,
        noun=f"slices of {format_duration(slice_s)}",
        step_s=slice_s,
    )


def _good_ratio(sli: EventSli | RatioSli, slice_s: int) -> str:
    if isinstance(sli, RatioSli):
        return f"1 - ({render(sli.query, slice_s)})"
    total = _count(sli, sli.total_query, slice_s)
    # Where nothing ever failed there is no such series.
    part = f"({_count(sli, sli.query, slice_s)} or 0 * {total})"
    return f"{part} / {total}" if sli.counts_good else f"1 - {part} / {total}"


def _count(sli: EventSli, query: str, slice_s: int) -> str:
    # Where the unit is not known it is taken to be the same in both queries.
    factor = sli.per_unit(query, slice_s) or 1.0
    rendered = f"({render(query, slice_s)})"
    return rendered if factor == 1 else f"({rendered} * {factor:.12g})"
