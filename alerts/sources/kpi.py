"""Business figures that are proven wrong, as alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alerts.cause import Change, candidates_of, cause_annotations
from alerts.model import Alert
from business_metrics.model import KpiReading
from detectors.finding import Finding
from detectors.topology import NO_CALLS, Topology
from store.model import Labels, UnitHealth
from store.timestamps import rfc3339

# Alert name and severity of a figure; a reading may name a severity of its own.
_KNOWN = {
    "order_rate": ("OrderRateDrop", "page"),
    "payment_success": ("PaymentSuccessDrop", "page"),
    "checkout_abandonment": ("CheckoutAbandonmentHigh", "ticket"),
}


def alerts_of(
    readings: Iterable[KpiReading],
    external_url: str = "",
    findings: Iterable[Finding] = (),
    changes: Iterable[Change] = (),
    topology: Topology = NO_CALLS,
) -> list[Alert]:
    """Alerts of the breached readings; a provisional figure never alerts.

    Args:
        readings: The figures at this tick.
        external_url: Goes before the evidence's path.
        findings: Active faults, and
        changes: what changed in the last hour: the likeliest of both becomes the cause.
        topology: Who calls whom.
    """
    candidates = candidates_of(findings, changes)
    breached = [r for r in readings if r.breached and not r.provisional]
    return [alert_of(r, external_url, candidates, topology) for r in breached]


def alert_of(
    reading: KpiReading,
    external_url: str = "",
    candidates: Sequence[Change] = (),
    topology: Topology = NO_CALLS,
) -> Alert:
    """The alert of a breached reading."""
    name, severity = _KNOWN.get(reading.kpi) or (f"Kpi{_camel(reading.kpi)}", "ticket")
    labels = {
        **reading.labels,
        "alertname": name,
        "kpi": reading.kpi,
        "severity": reading.severity or severity,
    }
    identity = Labels.of(labels)
    started_ms = reading.at_ms if reading.since_ms is None else reading.since_ms
    annotations = {
        "summary": _summary(reading),
        **cause_annotations(identity, started_ms, candidates, reading.reason, topology),
        "impact": _impact(reading),
        "fix": "see what changed just before, and the first step of the funnel that lost people",
        "evidence_url": f"{external_url.rstrip('/')}/business?kpi={reading.kpi}",
    }
    if reading.revenue_at_risk is not None:
        annotations["revenue_at_risk"] = str(reading.revenue_at_risk)
        annotations["currency"] = reading.currency
    if reading.since_ms is not None:
        annotations["since"] = rfc3339(reading.since_ms)
    return Alert(
        labels=identity,
        annotations=annotations,
        value=0.0 if reading.value is None else reading.value,
        since_ms=reading.since_ms,
        source="kpi",
        unit=f"kpi:{reading.kpi}",
    )


def unknown_units(readings: Iterable[KpiReading], health: Iterable[UnitHealth]) -> frozenset[str]:
    """Units (`Alert.unit`) of the figures without data or whose evaluation failed."""
    silent = {r.kpi for r in readings if r.value is None}
    failed = {unit.unit.removeprefix("business:") for unit in health if not unit.ok}
    return frozenset(f"kpi:{name}" for name in silent | failed)


def _summary(reading: KpiReading) -> str:
    name = reading.kpi.replace("_", " ").capitalize()
    value = "unknown" if reading.value is None else _figure(reading.value, reading.unit)
    if reading.expected is None:
        return f"{name} is {value}"
    return f"{name} is {value}, expected {_figure(reading.expected, reading.unit)}"


def _figure(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "ratio" else f"{value:.4g} {unit}".strip()


def _impact(reading: KpiReading) -> str:
    if reading.revenue_at_risk is None:
        return ""
    return f"{reading.revenue_at_risk:.2f} {reading.currency} of revenue at risk".replace("  ", " ")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
