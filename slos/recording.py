"""What SLOs record of themselves: Sloth's series, so that Sloth's dashboards work unchanged."""

from __future__ import annotations

from collections.abc import Iterable

from slos.burn_rate import WindowReading
from slos.definition import Slo
from slos.durations import format_duration
from slos.model import SloStatus
from store.model import Labels, SampleBatch

Row = tuple[Labels, int, float]


def rows(slo: Slo, status: SloStatus, readings: Iterable[WindowReading]) -> list[Row]:
    """The samples of one SLO at one instant. What is unknown is not recorded."""
    base = slo.labels | {
        "sloth_id": slo.id,
        "sloth_service": slo.service,
        "sloth_slo": slo.name,
    }

    def row(metric: str, value: float, **labels: str) -> Row:
        return Labels.of(base | labels, __name__=metric), status.at_ms, value

    info = slo.info_labels | {
        "sloth_mode": "warroom",
        "sloth_version": "warroom",
        "sloth_spec": slo.spec,
        "sloth_objective": f"{slo.objective * 100:.10g}",
    }
    out = [
        row("sloth_slo_info", 1.0, **info),
        row("slo:objective:ratio", slo.objective),
        row("slo:error_budget:ratio", 1.0 - slo.objective),
        row("slo:time_period:days", slo.window_s / 86_400),
    ]
    for reading in readings:
        if reading.error_ratio is not None:
            window = format_duration(reading.window_s)
            metric = f"slo:sli_error:ratio_rate{window}"
            out.append(row(metric, reading.error_ratio, sloth_window=window))
    if status.burn_rates:
        out.append(row("slo:current_burn_rate:ratio", next(iter(status.burn_rates.values()))))
    if status.error_budget_remaining is not None:
        left = status.error_budget_remaining
        out.append(row("slo:period_burn_rate:ratio", 1.0 - left))
        out.append(row("slo:period_error_budget_remaining:ratio", left))
    return out


def batch(samples: Iterable[Row]) -> SampleBatch:
    """The samples of all SLOs of a tick as one batch."""
    return SampleBatch.of_rows(samples)
