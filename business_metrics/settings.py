"""What the shop's owner decides: money, time, sale days and when to alarm."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from business_metrics.calendar import SaleDay
from store.errors import ConfigError

_SEVERITIES = frozenset({"ticket", "page"})


@dataclass(frozen=True, slots=True)
class BusinessSettings:
    """Settings of the business metrics. Ratios are from 0 to 1.

    Attributes:
        currency: Revenue counts amounts in this currency only.
        time_zone: Weeks and sale days follow this wall clock.
        checkout_timeout_s: A checkout without activity for so long is abandoned.
        calendar: Sale days, also those of earlier years: they are the best baseline.
        alpha: The chance of a false alarm in one look at a window that is accepted at most.
        false_alarms_per_month: What all looks of a month together may cost, for each window.
        abandonment_max: Above this, proven, checkout abandonment raises a ticket.
        abandonment_window_s: How far back matured cohorts are judged.
        baseline_weeks: How many weeks back the baseline looks.
        payment_success_min: Below this, proven, payments fail too often.
        payment_severity: How grave that is: `ticket`, because missing orders page already.
    """

    currency: str = "EUR"
    time_zone: str = "UTC"
    checkout_timeout_s: int = 1_800
    calendar: tuple[SaleDay, ...] = ()
    alpha: float = 1e-4
    false_alarms_per_month: float = 0.1
    abandonment_max: float = 0.40
    abandonment_window_s: int = 3_600
    baseline_weeks: int = 4
    payment_success_min: float = 0.8
    payment_severity: str = "ticket"

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise ConfigError(
                f"business.time_zone {self.time_zone!r} is unknown", hint="write Europe/Berlin"
            ) from exc
        bounds = (
            ("checkout_timeout_s", 60 <= self.checkout_timeout_s <= 86_400, "30m"),
            ("alpha", 0 < self.alpha <= 0.05, "0.0001"),
            ("abandonment_max", 0 < self.abandonment_max < 1, "0.4"),
            ("abandonment_window_s", 300 <= self.abandonment_window_s <= 86_400, "1h"),
            ("payment_success_min", 0 < self.payment_success_min < 1, "0.8"),
            ("payment_severity", self.payment_severity in _SEVERITIES, "ticket or page"),
            ("baseline_weeks", 1 <= self.baseline_weeks <= 12, "4"),
        )
        for name, valid, example in bounds:
            if not valid:
                value = getattr(self, name)
                raise ConfigError(
                    f"business.{name} {value!r} is out of bounds", hint=f"write {example}"
                )

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)
