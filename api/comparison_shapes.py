"""A comparison of two windows as the JSON that our own API promises."""

from __future__ import annotations

from typing import Any

from api.shapes import number
from detectors.comparison import Compared, Comparison
from detectors.readings import Reading
from store.timestamps import rfc3339

Json = dict[str, Any]


def comparison_json(compared: Comparison, service: str, route: str) -> Json:
    """Both windows, the verdict, and each figure with a verdict of its own."""
    return {
        "service": service,
        "route": route,
        "verdict": compared.judgement.verdict.value,
        "confidence": round(compared.judgement.confidence, 4),
        "why": compared.why,
        "before": _window_json(compared.before),
        "after": _window_json(compared.after),
        "figures": [_figure_json(one, compared.decisive) for one in compared.figures],
    }


def _window_json(reading: Reading) -> Json:
    window = reading.window
    return {
        "from": rfc3339(window.start_ms),
        "to": rfc3339(window.end_ms),
        "label": window.label,
        "requests": number(reading.requests),
        "counted_by": reading.source,
        "traces": len(reading.wasted_s),
    }


def _figure_json(one: Compared, decisive: tuple[str, ...]) -> Json:
    before, after = number(one.before), number(one.after)
    change = None
    if before is not None and after is not None and before:
        change = round((after - before) / before, 4)
    return {
        "name": one.spec.name,
        "unit": one.spec.unit,
        "better": "lower" if one.spec.lower else "higher",
        "before": before,
        "after": after,
        "change": change,
        "verdict": one.judgement.verdict.value,
        "confidence": round(one.judgement.confidence, 4),
        "samples": {"before": one.samples[0], "after": one.samples[1]},
        "decides": one.spec.name in decisive,
    }
