"""What is left of an error budget, weighted by events over the true window."""

from __future__ import annotations

from collections.abc import Sequence

from slos.burn_rate import WindowReading, burn_rate
from slos.model import SloState


def remaining(reading: WindowReading, objective: float) -> float | None:
    """The share of the budget that is left: 1 untouched, 0 spent, below 0 overdrawn.

    A young series is judged on the events there are: the same span above and below the line.
    """
    if reading.error_ratio is None:
        return None
    return 1.0 - burn_rate(reading.error_ratio, objective)


def without(reading: WindowReading, excluded: Sequence[WindowReading]) -> WindowReading:
    """A window without the events of maintenance; a bare ratio cannot be corrected."""
    if reading.bad is None or reading.total is None:
        return reading
    bad = reading.bad - sum(part.bad or 0.0 for part in excluded)
    total = reading.total - sum(part.total or 0.0 for part in excluded)
    return WindowReading.of_counts(reading.window_s, bad, max(total, 0.0))


def state(*, has_data: bool, firing: bool, left: float | None) -> SloState:
    """One word. No data is never ok; a burn is shown even when nothing is left to burn."""
    if firing:
        return SloState.BURNING
    if not has_data or left is None:
        return SloState.NO_DATA
    return SloState.EXHAUSTED if left <= 0 else SloState.OK
