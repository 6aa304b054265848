"""What the business metrics say at one instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class KpiReading:
    """One business figure with what was expected, and whether that is proven wrong.

    Attributes:
        kpi: Its name: `order_rate`, `checkout_abandonment`, `payment_success`, …
        value: What was measured; None when there is no data.
        expected: The baseline's figure, with the band it should lie in.
        breached: The rule of this figure (Poisson, Wilson) is met: the alert should be active.
        since_ms: Since when it has been so, by the data.
        reason: The decision's name and numbers, in a sentence.
        provisional: The cohort is not matured; never alerted on.
    """

    kpi: str
    at_ms: int
    value: float | None
    unit: str
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    breached: bool = False
    severity: str = ""
    since_ms: int | None = None
    reason: str = ""
    provisional: bool = False
    window_s: int = 0
    revenue_at_risk: Decimal | None = None
    currency: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    detail: dict[str, float | str] = field(default_factory=dict)
