"""What an SLO says of itself at one instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class SloState(StrEnum):
    """No data is a state of its own, never ok."""

    OK = "ok"
    BURNING = "burning"
    EXHAUSTED = "exhausted"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class TierReading:
    """One multiwindow tier: it fires while both burn rates are above its factor.

    Attributes:
        reason: The decision's name, such as `both_windows_above_factor` or `held_without_data`.
        since_ms: Since when the budget burns so, by the data; None when it does not fire.
        statement: The burn in words, for the page; empty when it does not fire.
        inhibited: It fires, but a faster tier told of the same burn first: no alert of its own.
    """

    severity: str  # "page" or "ticket"
    factor: float
    long_s: int
    short_s: int
    long_burn: float | None
    short_burn: float | None
    firing: bool
    budget: float = 0.0
    reason: str = ""
    since_ms: int | None = None
    statement: str = ""
    inhibited: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """What will be left of the budget at the end of a named event.

    Attributes:
        expected_events: From now until the end.
        basis: What that rests on: `same_sale_before`, `last_week`, or `clock` for time slices.
        pace_error_ratio: The last day's error ratio, 0 to 1.
        remaining: Of the budget at the end, if that pace lasts; below 0 overdrawn.
        allowed_error_ratio: What may fail until the end without spending the budget, 0 to 1.
        statement: The same in words.
    """

    event: str
    starts_ms: int
    ends_ms: int
    expected_events: float
    basis: str
    pace_error_ratio: float
    remaining: float
    allowed_error_ratio: float
    statement: str = ""


@dataclass(frozen=True, slots=True)
class SloStatus:
    """One SLO at one instant. Ratios are from 0 to 1; an unknown figure is None."""

    name: str
    service: str
    description: str
    objective: float
    window_s: int
    sli: float | None
    error_budget_remaining: float | None
    burn_rates: dict[str, float]
    tiers: tuple[TierReading, ...]
    state: SloState
    at_ms: int
    exhausts_at_ms: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    # In words, in requests and, where known, in orders and money: goes into the page.
    statement: str = ""
    bad_events: float | None = None
    total_events: float | None = None
    # Of a whole period, estimated: a young period holds fewer.
    period_events: float | None = None
    error: str = ""
    # Tiers that can never fire at this objective, each with the sum that shows it.
    refused_tiers: tuple[str, ...] = ()
    # What the author wished for the alerts: a name, annotations, labels by severity.
    alert_name: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    severity_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    severity_annotations: dict[str, dict[str, str]] = field(default_factory=dict)
    # Of a calendar window: when the budget began, and when it begins anew.
    period_start_ms: int | None = None
    resets_at_ms: int | None = None
    outlook: Outlook | None = None
