"""One big number with its sparkline, its band, its change against last week and last sale."""

from __future__ import annotations

import math
from collections.abc import Sequence

from api.boards import Panel
from api.panels.view import Json, View, newest_value_ms
from business_metrics.model import KpiReading
from store.model import RangeMatrix

_WEEK_MS = 7 * 86_400_000
_SPARK_POINTS = 60
# A reading this old was not renewed by the last ticks.
_FRESH_MS = 60_000
_BREACH_STATUS = {"page": "crit", "ticket": "warn"}


def compute(panel: Panel, view: View, _previous: Json | None) -> Json:
    """From a KPI of the business metrics where `kpi` is given, else from PromQL.

    `options.judged_by` names the KPI whose rule judges the figure, where that is another one.
    """
    reading = _reading(panel.kpi, view.sources.kpis()) if panel.kpi else None
    if reading is None and not panel.query:
        return _empty(panel, view)
    spark = _spark(panel, view)
    value = reading.value if reading else _instant(panel.query, view.now_ms, view)
    if value is None or not math.isfinite(value):
        return _vanished(panel, view, reading, spark)
    judged_by = str(panel.options.get("judged_by", ""))
    judge = _reading(judged_by, view.sources.kpis()) or reading
    old = reading is not None and view.now_ms - reading.at_ms >= max(_FRESH_MS, view.step_ms)
    return {
        "state": "stale" if old else "ok",
        "as_of_ms": reading.at_ms if reading else view.now_ms,
        "value": value,
        "unit": panel.unit or (reading.unit if reading else ""),
        "spark": spark,
        "band": _band(reading),
        "delta_last_week": _delta(panel, view, value, view.now_ms - _WEEK_MS),
        **_against_sale(panel, view, value),
        "status": _status(panel, judge, value),
        "provisional": bool(reading and reading.provisional),
        "note": judge.reason if judge else "",
        "revenue_at_risk": str(judge.revenue_at_risk)
        if judge and judge.revenue_at_risk is not None
        else None,
    }


def _vanished(panel: Panel, view: View, reading: KpiReading | None, spark: Json) -> Json:
    """No value now: the last one there was, marked stale, or nothing."""
    empty = {**_empty(panel, view), "spark": spark}
    if reading is not None:
        empty |= {"note": reading.reason, "unit": panel.unit or reading.unit}
    newest_ms = newest_value_ms(spark["t"], [spark["values"]])
    if newest_ms is None:
        return empty
    last = spark["values"][spark["t"].index(newest_ms)]
    note = empty["note"] or "there is no value now; this is the last one"
    return {**empty, "state": "stale", "as_of_ms": newest_ms, "value": last, "note": note}


def _empty(panel: Panel, view: View) -> Json:
    return {
        "state": "no_data",
        "as_of_ms": view.now_ms,
        "value": None,
        "unit": panel.unit,
        "spark": {"t": [], "values": []},
        "band": None,
        "delta_last_week": None,
        "delta_last_sale": None,
        "last_sale": "",
        "last_sale_at_ms": None,
        "status": "unknown",
        "provisional": False,
        "note": "",
        "revenue_at_risk": None,
    }


def _reading(kpi: str, readings: Sequence[KpiReading]) -> KpiReading | None:
    return next((r for r in readings if r.kpi == kpi and not r.labels), None)


def _instant(expr: str, at_ms: int, view: View) -> float | None:
    vector = view.sources.querier.instant(expr, at_ms)
    return float(vector.values[0]) if len(vector) else None


def _spark(panel: Panel, view: View) -> Json:
    expr = panel.query or str(panel.options.get("spark", ""))
    if not expr:
        return {"t": [], "values": []}
    step_ms = max(view.step_ms, view.range_ms // _SPARK_POINTS // view.step_ms * view.step_ms)
    # On a grid of its own: the points must not move from tick to tick.
    end_ms = view.now_ms // step_ms * step_ms
    matrix = view.sources.querier.range(expr, end_ms - view.range_ms, end_ms, step_ms)
    return {"t": matrix.steps_ms.tolist(), "values": _first_line(matrix)}


def _first_line(matrix: RangeMatrix) -> list[float | None]:
    if not matrix.series:
        return [None] * len(matrix.steps_ms)
    pairs = zip(matrix.values[0].tolist(), matrix.present[0].tolist(), strict=True)
    return [value if present and math.isfinite(value) else None for value, present in pairs]


def _band(reading: KpiReading | None) -> Json | None:
    if reading is None or reading.expected is None:
        return None
    return {"expected": reading.expected, "low": reading.low, "high": reading.high}


def _against_sale(panel: Panel, view: View, value: float) -> Json:
    sale = view.sources.earlier_sale(view.now_ms)
    if sale is None:
        return {"delta_last_sale": None, "last_sale": "", "last_sale_at_ms": None}
    return {
        "delta_last_sale": _delta(panel, view, value, sale.at_ms),
        "last_sale": sale.name,
        # To the minute: a figure that does not change needs no delta.
        "last_sale_at_ms": sale.at_ms // 60_000 * 60_000,
    }


def _delta(panel: Panel, view: View, value: float, then_ms: int) -> float | None:
    """Relative change; the difference itself (percentage points) where the unit is a ratio."""
    expr = panel.query or str(panel.options.get("spark", ""))
    before = _instant(expr, then_ms, view) if expr else None
    if before is None or not math.isfinite(before):
        before = view.sources.kpi_then(panel.kpi, then_ms) if panel.kpi else None
    if before is None or not math.isfinite(before):
        return None
    if panel.unit == "ratio":
        return value - before
    return value / before - 1 if before else None


def _status(panel: Panel, reading: KpiReading | None, value: float) -> str:
    if reading is not None and reading.breached:
        return _BREACH_STATUS.get(reading.severity, "warn")
    for status in ("crit", "warn"):
        above, below = (panel.options.get(f"{status}_{side}") for side in ("above", "below"))
        if (above is not None and value > float(above)) or (
            below is not None and value < float(below)
        ):
            return status
    return "ok"
