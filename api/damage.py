"""What an incident cost: error budgets, orders and revenue of its time, as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alerts.incidents import Incident
from api.shapes import number
from business_metrics.at_risk import RevenueAtRisk
from slos.spent import Spent

Json = dict[str, Any]
_MAX_SLOS = 20
# Of an SLO of another service less is no news.
_LEAST_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Damage:
    """Of one incident's time.

    Attributes:
        slos: What was spent of error budgets, the most first.
        orders: How many came, and how many were expected; None where nothing can be expected.
        revenue: What was missing of the revenue; None where nothing can be expected.
        unknown: What could not be read, and why.
    """

    slos: tuple[Spent, ...] = ()
    orders: tuple[int, float] | None = None
    revenue: RevenueAtRisk | None = None
    unknown: tuple[str, ...] = ()


# The damage of an incident, and how many seconds reading it may take.
DamageOf = Callable[[Incident, float], Damage]


def notable(spent: list[Spent], services: frozenset[str]) -> tuple[Spent, ...]:
    """Those of the incident's own services, and others that lost some of their budget."""
    told = [
        s for s in spent if s.share >= _LEAST_SHARE or (s.service in services and s.error_ratio)
    ]
    told.sort(key=lambda s: (-s.share, s.service, s.name))
    return tuple(told[:_MAX_SLOS])


def lines_of(damage: Damage) -> list[str]:
    """A list in Markdown, without marks in names; empty where nothing is known."""
    lines = [_slo_line(spent) for spent in damage.slos]
    if damage.revenue is not None:
        risk = damage.revenue
        lines.append(
            f"- Revenue: {risk.amount} {risk.currency} less than expected "
            f"(95 %: {risk.low} to {risk.high})"
        )
    if damage.orders is not None:
        came, expected = damage.orders
        lines.append(f"- Orders: {came:,} came, {expected:,.1f} were expected")
    return [*lines, *(f"- Not known: {reason}" for reason in damage.unknown)]


def damage_json(damage: Damage) -> Json:
    """The same for programs. Ratios and shares are from 0 to 1."""
    risk = damage.revenue
    return {
        "slos": [
            {
                "slo": s.name,
                "service": s.service,
                "bad_events": number(s.bad),
                "total_events": number(s.total),
                "error_ratio": number(s.error_ratio),
                "budget_spent": number(s.share),
            }
            for s in damage.slos
        ],
        "orders": None
        if damage.orders is None
        else {"actual": damage.orders[0], "expected": number(damage.orders[1])},
        "revenue_lost": None
        if risk is None
        else {
            "amount": str(risk.amount),
            "currency": risk.currency,
            "low": str(risk.low),
            "high": str(risk.high),
        },
        "unknown": list(damage.unknown),
    }


def _slo_line(spent: Spent) -> str:
    words = f"{spent.error_ratio:.2%} failed"
    if spent.bad is not None and spent.total is not None:
        words = f"{round(spent.bad):,} of {round(spent.total):,} {spent.noun} failed"
    name = f"{spent.service}/{spent.name}"
    return f"- SLO {name}: {words}, {spent.share:.2%} of the period's error budget"
