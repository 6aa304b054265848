"""Business figures and SLOs as they were, out of the series that were recorded of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from business_metrics.memory import Breach
from business_metrics.model import KpiReading
from slos import budget
from store.durations import parse_duration_ms
from store.model import Labels
from store.ports import Querier
from store.timestamps import rfc3339

Json = dict[str, Any]
_BUSINESS = "warroom_business_"
# KPI -> the series it was recorded in, and its unit; {currency} is the series' own label.
_SERIES: Mapping[str, tuple[str, str]] = {
    "order_rate": ("orders_per_minute", "orders/min"),
    "orders_per_minute": ("orders_per_minute", "orders/min"),
    "revenue_per_minute": ("revenue_per_minute", "{currency}/min"),
    "payment_success": ("payment_success_ratio", "ratio"),
    "checkout_abandonment": ("checkout_abandonment_ratio", "ratio"),
    "checkout_abandonment_live": ("checkout_abandonment_live_ratio", "ratio"),
    "conversion": ("conversion_ratio", "ratio"),
    "search_abandonment": ("search_abandonment_ratio", "ratio"),
    "average_order_value": ("average_order_value", "{currency}"),
}
_EXPECTED = "expected_orders_per_minute"
_AT_RISK = "revenue_at_risk"
_KPI_ALERTS = 'ALERTS{kpi!="",alertstate="firing"}'
_WITH_BAND = frozenset({"order_rate", "orders_per_minute"})
_PROVISIONAL = frozenset({"checkout_abandonment_live", "conversion"})
_ERROR = "slo:sli_error:ratio_rate"
_SLO_SERIES = '{__name__=~"slo:.+",sloth_id!=""}'


def kpis_at(
    querier: Querier, breaches: Callable[[str, int], Sequence[Breach]], at_ms: int
) -> list[KpiReading]:
    """The readings of that tick; a figure that was not recorded is left out."""
    vector = querier.instant('{__name__=~"warroom_business_.+"}', at_ms)
    recorded = {
        labels.metric.removeprefix(_BUSINESS): (labels, float(value))
        for labels, value in zip(vector.series, vector.values.tolist(), strict=True)
        if not labels.get("segment")
    }
    firing = _firing(querier, at_ms)
    band = [recorded.get(f"{_EXPECTED}{end}", (None, None))[1] for end in ("", "_low", "_high")]
    readings = []
    for kpi, (series, unit) in _SERIES.items():
        if series not in recorded:
            continue
        labels, value = recorded[series]
        breached = kpi in firing
        risk = recorded.get(_AT_RISK) if breached and kpi == "order_rate" else None
        expected, low, high = band if kpi in _WITH_BAND else (None, None, None)
        readings.append(
            KpiReading(
                kpi=kpi,
                at_ms=at_ms,
                value=value,
                unit=unit.format(currency=labels.get("currency")),
                expected=expected,
                low=low,
                high=high,
                breached=breached,
                severity=firing.get(kpi, ""),
                since_ms=_since(breaches(kpi, at_ms), at_ms) if breached else None,
                provisional=kpi in _PROVISIONAL,
                revenue_at_risk=_money(risk[1]) if risk else None,
                currency=risk[0].get("currency") if risk else "",
            )
        )
    return readings


def _firing(querier: Querier, at_ms: int) -> dict[str, str]:
    """The severity of each KPI whose alert fired.

    A breach is no witness: when it began and ended is worked out afterwards, and it may grow worse.
    """
    vector = querier.instant(_KPI_ALERTS, at_ms)
    found = [(labels.get("kpi"), labels.get("severity")) for labels in vector.series]
    return dict(sorted(found, key=lambda pair: pair[1] == "page"))


def _since(breaches: Iterable[Breach], at_ms: int) -> int | None:
    """When the breach of then began."""
    return max((b.start_ms for b in breaches if b.start_ms <= at_ms), default=None)


def _money(value: float) -> Decimal:
    """A sample back to money: more than three places no currency has."""
    exact = Decimal(repr(round(value, 3)))
    return exact.quantize(Decimal("0.01")) if exact == exact.quantize(Decimal("0.01")) else exact


def slos_at(querier: Querier, today: Sequence[Json], at_ms: int) -> list[Json]:
    """Every SLO that was recorded then.

    What is recorded are ratios. Descriptions, windows and tiers are those of today's definitions,
    where the SLO still has one.
    """
    by_name = {(slo["service"], slo["name"]): slo for slo in today}
    vector = querier.instant(_SLO_SERIES, at_ms)
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for labels, value in zip(vector.series, vector.values.tolist(), strict=True):
        key = (labels.get("sloth_service"), labels.get("sloth_slo"))
        groups.setdefault(key, {})[_short(labels)] = float(value)
    return [
        _slo(service, name, figures, by_name.get((service, name), {}), at_ms)
        for (service, name), figures in sorted(groups.items())
        if "objective" in figures
    ]


def _short(labels: Labels) -> str:
    metric = labels.metric
    if metric.startswith(_ERROR):
        return metric.removeprefix(_ERROR)
    return metric.split(":")[1]


def _slo(service: str, name: str, figures: Mapping[str, float], today: Json, at_ms: int) -> Json:
    objective = figures["objective"]
    left = figures.get("period_error_budget_remaining")
    windows = {
        key: value for key, value in figures.items() if key[-1:] in "smhdw" and key[0].isdigit()
    }
    allowed = 1 - objective
    burns = {window: error / allowed for window, error in windows.items()} if allowed > 0 else {}
    tiers = [_tier(tier, burns) for tier in today.get("tiers", [])]
    return {
        "name": name,
        "service": service,
        "description": today.get("description", ""),
        "objective": objective,
        "window": f"{round(figures.get('time_period', 30) * 86_400)}s",
        "sli": None if left is None else 1 - (1 - left) * allowed,
        "error_budget_remaining": left,
        "burn_rates": burns,
        "tiers": tiers,
        "state": budget.state(
            has_data=bool(windows), firing=any(tier["firing"] for tier in tiers), left=left
        ).value,
        "exhausts_at": None,
        "statement": "",
        "as_of": rfc3339(at_ms),
        "labels": today.get("labels", {}),
        "error": "",
    }


def _tier(tier: Json, burns: Mapping[str, float]) -> Json:
    """A tier of today, judged by the burn rates of then."""
    seconds = {_seconds(window): burn for window, burn in burns.items()}
    long, short = (seconds.get(_seconds(tier[end])) for end in ("long", "short"))
    firing = all(burn is not None and burn > tier["factor"] for burn in (long, short))
    return {**tier, "long_burn": long, "short_burn": short, "firing": firing}


def _seconds(window: str) -> int:
    try:
        return parse_duration_ms(window) // 1000
    except ValueError:
        return -1
