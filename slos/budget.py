"""What is left of an error budget, weighted by events over the true window."""

from __future__ import annotations

from collections.abc import Sequence

from slos.burn_rate import WindowReading, burn_rate, exhaustion_s
from slos.model import SloState


def remaining(
    reading: WindowReading, objective: float, planned: float | None = None
) -> float | None:
    """The share of the budget that is left: 1 untouched, 0 spent, below 0 overdrawn.

    A young series is judged on the events there are: the same span above and below the line.

    Args:
        reading: The period so far.
        objective: The share of events that should be good.
        planned: Events of the whole period where they are known beforehand, as time slices are.
    """
    if reading.error_ratio is None:
        return None
    if planned and reading.bad is not None:
        return 1.0 - reading.bad / ((1.0 - objective) * planned)
    return 1.0 - burn_rate(reading.error_ratio, objective)


def without(reading: WindowReading, excluded: Sequence[WindowReading]) -> WindowReading:
    """A window without the events of maintenance.

    A bare ratio counts no events: each second of it is taken to weigh the same.
    """
    if not excluded:
        return reading
    if reading.bad is not None and reading.total is not None:
        bad = reading.bad - sum(part.bad or 0.0 for part in excluded)
        total = reading.total - sum(part.total or 0.0 for part in excluded)
        # What rates leave of a window that lies in maintenance whole is no event.
        total = total if total > reading.total * 1e-9 else 0.0
        return WindowReading.of_counts(reading.window_s, bad, total)
    if reading.error_ratio is None:
        return reading
    measured = [part for part in excluded if part.error_ratio is not None]
    rest_s = reading.window_s - sum(part.window_s for part in measured)
    if rest_s <= 0:
        return WindowReading(reading.window_s)
    bad_s = reading.error_ratio * reading.window_s
    bad_s -= sum((part.error_ratio or 0.0) * part.window_s for part in measured)
    return WindowReading(reading.window_s, min(max(bad_s / rest_s, 0.0), 1.0))


def exhausts_in_s(left: float, burn: float, period_s: int, elapsed_s: int | None) -> float | None:
    """Seconds until the budget is gone at this burn rate; None when it lasts.

    Args:
        left: The share that is left.
        burn: The burn rate, which is taken to last.
        period_s: The budget's period.
        elapsed_s: Of a calendar period, what is over: its budget grows with the events to come.
    """
    if elapsed_s is None:
        return exhaustion_s(left, period_s, burn)
    if burn <= 1 or left <= 0:
        return None
    gone_s = elapsed_s * left / (burn - 1)
    return gone_s if elapsed_s + gone_s <= period_s else None


def state(*, has_data: bool, firing: bool, left: float | None) -> SloState:
    """One word. No data is never ok; a burn is shown even when nothing is left to burn."""
    if firing:
        return SloState.BURNING
    if not has_data or left is None:
        return SloState.NO_DATA
    return SloState.EXHAUSTED if left <= 0 else SloState.OK
