"""k6's end-of-test summary in each of its shapes.

- `handleSummary(data)`: `metrics: {name: {type, values, thresholds: {text: {ok}}}}`, with
  `state.testRunDurationMs`;
- `--summary-export`: the values beside each other, a rate's called `value`, and thresholds as
  `{text: failed}`: true says that it did *not* hold;
- with `--new-machine-readable-summary` (k6 1.5 and later) both are
  `{version, metadata, config, results: {checks, metrics: [{name, values}]}}`.

Times of requests are milliseconds in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from api.loadtests.record import Durations, Figures, Threshold
from store.errors import BadInput

MAX_THRESHOLDS = 200
MAX_NAME = 300
_MOST = 1e15
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HINT = "send what handleSummary(data) gets or what --summary-export writes, as it is"

Values = Mapping[str, Any]


def figures_of(body: bytes) -> tuple[Figures, dict[str, Any]]:
    """What a summary tells, and the document itself.

    Raises:
        BadInput: It is no JSON, or no summary of k6.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadInput(f"the summary is not valid JSON: {exc}", hint=_HINT) from exc
    if not isinstance(document, dict):
        raise BadInput("a summary is a JSON object", hint=_HINT)
    if isinstance(document.get("results"), dict):
        return _machine_readable(document), document
    if isinstance(document.get("metrics"), dict):
        return _classic(document), document
    raise BadInput("this is no summary of k6: it has neither metrics nor results", hint=_HINT)


def _classic(document: Values) -> Figures:
    metrics = {
        name: found for name, found in document["metrics"].items() if isinstance(found, dict)
    }
    values = {name: _mapping(found.get("values", found)) for name, found in metrics.items()}
    run_ms = _number(_mapping(document.get("state")).get("testRunDurationMs"))
    requests = values.get("http_reqs", {})
    rate = _number(requests.get("rate"))
    count = _count(requests.get("count"))
    if run_ms is None and rate and count:
        run_ms = 1000 * count / rate
    checks = values.get("checks", {})
    return Figures(
        run_ms=None if run_ms is None else round(run_ms),
        requests=count,
        requests_per_second=rate,
        error_ratio=_ratio(values.get("http_req_failed", {})),
        durations=_durations(values.get("http_req_duration", {})),
        checks_passed=_count(checks.get("passes")),
        checks_failed=_count(checks.get("fails")),
        virtual_users=_virtual_users(values.get("vus_max", {})),
        thresholds=tuple(_thresholds(metrics)),
    )


def _machine_readable(document: Values) -> Figures:
    results = document["results"]
    values = {
        str(found.get("name")): _mapping(found.get("values"))
        for found in _objects(results.get("metrics"))
    }
    run_s = _number(_mapping(document.get("config")).get("duration"))
    count = _count(values.get("http_reqs", {}).get("count"))
    checks = _objects(_mapping(results.get("checks")).get("results"))
    return Figures(
        run_ms=None if run_s is None else round(run_s * 1000),
        ended_ms=_time_ms(_mapping(document.get("metadata")).get("generatedAt")),
        requests=count,
        requests_per_second=count / run_s if count is not None and run_s else None,
        error_ratio=_ratio(values.get("http_req_failed", {})),
        durations=_durations(values.get("http_req_duration", {})),
        checks_passed=sum(_count(check.get("passes")) or 0 for check in checks),
        checks_failed=sum(_count(check.get("fails")) or 0 for check in checks),
        virtual_users=_virtual_users(values.get("vus_max", {})),
    )


def _durations(values: Values) -> Durations:
    def seconds(*names: str) -> float | None:
        found = next((values[name] for name in names if name in values), None)
        told = _number(found)
        return None if told is None else told / 1000

    return Durations(
        p50=seconds("med", "p(50)"),
        p95=seconds("p(95)"),
        p99=seconds("p(99)"),
        max=seconds("max"),
        mean=seconds("avg"),
    )


def _ratio(values: Values) -> float | None:
    """The share of failed requests: `http_req_failed` is a rate of failures."""
    told = _number(values.get("rate", values.get("value")))
    return told if told is not None and told <= 1 else None


def _virtual_users(values: Values) -> int | None:
    return _count(values.get("max", values.get("value")))


def _thresholds(metrics: Mapping[str, Values]) -> Iterator[Threshold]:
    left = MAX_THRESHOLDS
    for name, metric in sorted(metrics.items()):
        for text, told in sorted(_mapping(metric.get("thresholds")).items()):
            held = told.get("ok") if isinstance(told, dict) else _inverse(told)
            if isinstance(held, bool) and left:
                left -= 1
                yield Threshold(f"{name}: {text}"[:MAX_NAME], held)


def _inverse(failed: Any) -> bool | None:
    return not failed if isinstance(failed, bool) else None


def _number(value: Any) -> float | None:
    """A number that can be believed: finite, and not below zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= _MOST else None


def _count(value: Any) -> int | None:
    told = _number(value)
    return None if told is None else round(told)


def _time_ms(value: Any) -> int | None:
    try:
        return (datetime.fromisoformat(value) - _EPOCH) // timedelta(milliseconds=1)
    except (TypeError, ValueError, OverflowError):
        return None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
