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
    """One multiwindow tier: it fires while both burn rates are above its factor."""

    severity: str  # "page" or "ticket"
    factor: float
    long_s: int
    short_s: int
    long_burn: float | None
    short_burn: float | None
    firing: bool


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
    error: str = ""
