"""Rate, errors and latency of each service, from the server's own request histograms."""

from __future__ import annotations

import math
from typing import Any

from api.boards import Panel
from api.panels.view import Json, View, newest_value_ms
from store.model import InstantVector, RangeMatrix

_WINDOW = "1m"
_COUNT = "http_server_request_duration_seconds_count"
_BUCKET = "http_server_request_duration_seconds_bucket"
_RATE = f"sum by (job) (rate({_COUNT}[{_WINDOW}]))"
_ERRORS = f'sum by (job) (rate({_COUNT}{{http_response_status_code=~"5.."}}[{_WINDOW}])) / {_RATE}'
_SPARK_POINTS = 60
# The case study's thresholds: more than 1 % errors, or slower than 2 s.
_CRIT_ERRORS, _CRIT_P95_S = 0.01, 2.0


def _quantile(q: float) -> str:
    return f"histogram_quantile({q}, sum by (job, le) (rate({_BUCKET}[{_WINDOW}])))"


_P95 = _quantile(0.95)


def compute(panel: Panel, view: View, _previous: Json | None) -> Json:
    """One entry a service; one that has gone silent within the range stays, without figures."""
    rates = _by_job(view.sources.querier.instant(_RATE, view.now_ms))
    errors = _by_job(view.sources.querier.instant(_ERRORS, view.now_ms))
    quantiles = {
        name: _by_job(view.sources.querier.instant(_quantile(q), view.now_ms))
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    step_ms = max(view.step_ms, view.range_ms // _SPARK_POINTS // view.step_ms * view.step_ms)
    end_ms = view.now_ms // step_ms * step_ms
    start_ms = end_ms - view.range_ms
    rate_lines = view.sources.querier.range(_RATE, start_ms, end_ms, step_ms)
    p95_lines = view.sources.querier.range(_P95, start_ms, end_ms, step_ms)
    services = [
        _service(job, rate, errors.get(job, 0.0), {n: q.get(job) for n, q in quantiles.items()})
        for job, rate in sorted(rates.items())
    ]
    seen = {labels.get("job") for labels in rate_lines.series}
    services += [_silent(job) for job in sorted(seen - rates.keys())]
    for service in services:
        service["spark"] = {
            "t": rate_lines.steps_ms.tolist(),
            "rate": _line(rate_lines, service["service"]),
            "p95": _line(p95_lines, service["service"]),
        }
    return {
        **({"state": "ok", "as_of_ms": view.now_ms} if rates else _vanished(rate_lines, view)),
        "unit": panel.unit,
        "services": services,
    }


def _vanished(rate_lines: RangeMatrix, view: View) -> Json:
    lines = [_line(rate_lines, labels.get("job")) for labels in rate_lines.series]
    newest_ms = newest_value_ms(rate_lines.steps_ms.tolist(), lines)
    if newest_ms is None:
        return {"state": "no_data", "as_of_ms": view.now_ms}
    return {"state": "stale", "as_of_ms": newest_ms}


def _silent(job: str) -> dict[str, Any]:
    names = ("rate", "error_ratio", "p50", "p95", "p99")
    return {"service": job, **dict.fromkeys(names), "status": "unknown"}


def _by_job(vector: InstantVector) -> dict[str, float]:
    return {labels.get("job"): value for labels, value in vector.items() if math.isfinite(value)}


def _service(
    job: str, rate: float, error_ratio: float, quantiles: dict[str, float | None]
) -> dict[str, Any]:
    p95 = quantiles["p95"]
    if rate <= 0:
        status = "unknown"
    elif error_ratio > _CRIT_ERRORS or (p95 or 0.0) > _CRIT_P95_S:
        status = "crit"
    elif error_ratio > _CRIT_ERRORS / 2 or (p95 or 0.0) > _CRIT_P95_S / 2:
        status = "warn"
    else:
        status = "ok"
    return {
        "service": job,
        "rate": rate,
        "error_ratio": error_ratio,
        **quantiles,
        "status": status,
    }


def _line(matrix: RangeMatrix, job: str) -> list[float | None]:
    for index, labels in enumerate(matrix.series):
        if labels.get("job") == job:
            pairs = zip(matrix.values[index].tolist(), matrix.present[index].tolist(), strict=True)
            return [value if present and math.isfinite(value) else None for value, present in pairs]
    return [None] * len(matrix.steps_ms)
