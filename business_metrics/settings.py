"""What the shop's owner decides: money, time, sale days and when to alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from business_metrics.calendar import SaleDay
from store.errors import ConfigError

_SEVERITIES = frozenset({"ticket", "page"})
_MAX_RATE = Decimal(1_000_000)
_RATE_STEP = Decimal("0.000001")


def _convertible(rates: Mapping[str, Decimal], own: str) -> bool:
    """Rates with six decimals at most, of other currencies."""
    return own not in rates and all(
        len(code) == 3
        and rate.is_finite()
        and 0 < rate <= _MAX_RATE
        and rate == rate.quantize(_RATE_STEP)
        for code, rate in rates.items()
    )


@dataclass(frozen=True, slots=True)
class BusinessSettings:
    """Settings of the business metrics. Ratios are from 0 to 1.

    Attributes:
        currency: Revenue counts amounts in this currency only.
        time_zone: Weeks and sale days follow this wall clock.
        checkout_timeout_s: A checkout without activity for so long is abandoned.
        calendar: Sale days, also those of earlier years: they are the best baseline.
        alpha: The chance of a false alarm in one look at a window that is accepted at most.
        false_alarms_per_month: What all looks at windows together may cost in a month.
        abandonment_max: Above this, proven, checkout abandonment raises a ticket.
        abandonment_window_s: How far back matured cohorts are judged.
        baseline_weeks: How many weeks back the baseline looks.
        payment_success_min: Below this, proven, payments fail too often.
        payment_severity: How grave that is: `ticket`, because missing orders page already.
        slow_page_s: A request of a visitor that took so long may be why a checkout was left.
        exchange_rates: What one unit of another currency is worth in `currency`.
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
    slow_page_s: float = 2.0
    exchange_rates: Mapping[str, Decimal] = field(default_factory=dict)

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
            ("slow_page_s", 0.05 <= self.slow_page_s <= 60, "2s"),
            ("exchange_rates", _convertible(self.exchange_rates, self.currency), "{USD: '0.92'}"),
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
