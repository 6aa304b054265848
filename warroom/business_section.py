"""The `business:` section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from business_metrics.calendar import SaleDay
from business_metrics.settings import BusinessSettings
from store.errors import ConfigError
from warroom.units import duration_s

Duration = Annotated[float, BeforeValidator(duration_s)]
_DEFAULT = BusinessSettings()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SaleSection(_Strict):
    """One sale: `{name: black-friday, first: 2026-11-27, last: 2026-11-30}`."""

    name: str
    first: date
    last: date | None = None


class BusinessSection(_Strict):
    """What may be set; see docs/business.md."""

    currency: str = _DEFAULT.currency
    time_zone: str = _DEFAULT.time_zone
    checkout_timeout: Duration = float(_DEFAULT.checkout_timeout_s)
    calendar: tuple[SaleSection, ...] = ()
    alpha: float = _DEFAULT.alpha
    abandonment_max: float = _DEFAULT.abandonment_max
    abandonment_window: Duration = float(_DEFAULT.abandonment_window_s)
    baseline_weeks: int = _DEFAULT.baseline_weeks
    payment_success_min: float = _DEFAULT.payment_success_min
    payment_severity: str = _DEFAULT.payment_severity
    slow_page: Duration = _DEFAULT.slow_page_s
    exchange_rates: dict[str, Decimal] = Field(default_factory=dict, max_length=200)


def parse_business(data: Mapping[str, Any]) -> BusinessSettings:
    """Settings of the business metrics.

    Raises:
        ConfigError: An unknown name or a value out of bounds; it begins with the dotted path.
    """
    try:
        section = BusinessSection.model_validate(dict(data))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(("business", *(str(part) for part in first["loc"])))
        known = ", ".join(BusinessSection.model_fields)
        hint = f"known here: {known}" if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{where}: {first['msg']}", hint=hint) from exc
    return BusinessSettings(
        currency=section.currency,
        time_zone=section.time_zone,
        checkout_timeout_s=round(section.checkout_timeout),
        calendar=tuple(SaleDay(s.name, s.first, s.last or s.first) for s in section.calendar),
        alpha=section.alpha,
        abandonment_max=section.abandonment_max,
        abandonment_window_s=round(section.abandonment_window),
        baseline_weeks=section.baseline_weeks,
        payment_success_min=section.payment_success_min,
        payment_severity=section.payment_severity,
        slow_page_s=section.slow_page,
        exchange_rates=section.exchange_rates,
    )
