"""The stages of a load test against the SLOs, by what Warroom itself measured meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from api.shapes import number
from store.durations import parse_duration_ms
from store.ports import Querier

Json = dict[str, Any]
_STEP_MS = 15_000
# Of a longer stage its last hours: a window may not be as long as one likes.
_LONGEST_MS = 6 * 3_600_000
_MAX_POINTS = 2_000
_PREFIX = "slo:sli_error:ratio_rate"
_ERRORS = f'{{__name__=~"{_PREFIX}.+",sloth_id!=""}}'
_REQUESTS = (
    "sum(rate(http_server_request_duration_seconds_count[{window}]))"
    " or sum(rate(http_server_duration_milliseconds_count[{window}]))"
)
_P95 = (
    "histogram_quantile(0.95,"
    " sum by (le) (rate(http_server_request_duration_seconds_bucket[{window}])))"
)


def load_tests_json(
    querier: Querier, load_tests: Sequence[Json], slos: Sequence[Json]
) -> list[Json]:
    """Each test with its stages judged, and the highest multiple at which every SLO held."""
    return [_test(querier, test, slos) for test in load_tests]


def _test(querier: Querier, test: Json, slos: Sequence[Json]) -> Json:
    stages = [_stage(querier, stage, slos) for stage in _stages(test)]
    held = [stage["multiple"] for stage in stages if stage["held"] and stage["multiple"]]
    failed = [s["multiple"] for s in stages if s["held"] is False and s["multiple"] is not None]
    # A higher stage that held by luck after a lower one failed is no proof.
    proven = [multiple for multiple in held if not failed or multiple < min(failed)]
    known = ("id", "name", "source", "started_at", "ended_at", "target_multiple", "ok", "url")
    return {
        **{key: test.get(key) for key in known},
        "requests_per_second": test.get("requests_per_second"),
        "error_ratio": test.get("error_ratio"),
        "duration_seconds": test.get("duration_seconds"),
        "thresholds": test.get("thresholds") or [],
        "stages": stages,
        "held_up_to": max(proven, default=None),
    }


def _stages(test: Json) -> list[Json]:
    if test.get("stages"):
        return list(test["stages"])
    if not test.get("started_at") or not test.get("ended_at"):
        return []
    whole = {"from": test["started_at"], "to": test["ended_at"]}
    return [{"multiple": test.get("target_multiple"), **whole}]


def _stage(querier: Querier, stage: Json, slos: Sequence[Json]) -> Json:
    start_ms, end_ms = _ms(stage["from"]), _ms(stage["to"])
    objectives = {(slo["service"], slo["name"]): slo["objective"] for slo in slos}
    judged = _judged(querier, start_ms, end_ms, objectives)
    verdicts = [entry["held"] for entry in judged]
    return {
        "multiple": stage.get("multiple"),
        "from": stage["from"],
        "to": stage["to"],
        "requests_per_second": _over(querier, _REQUESTS, start_ms, end_ms),
        "p95_seconds": _over(querier, _P95, start_ms, end_ms),
        "slos": judged,
        "held": None if not verdicts or None in verdicts else all(verdicts),
    }


def _judged(
    querier: Querier, start_ms: int, end_ms: int, objectives: dict[tuple[str, str], float]
) -> list[Json]:
    """The mean error ratio of each SLO over the stage, left free of what came before it.

    Ratios are recorded over windows, which at the stage's beginning still hold the stage before.
    So the longest window is taken that fits into half of the stage, and read from when it is full.
    """
    matrix = querier.range(_ERRORS, start_ms, end_ms, _step_ms(start_ms, end_ms))
    measured: dict[tuple[str, str], tuple[int, float]] = {}
    for index, labels in enumerate(matrix.series):
        window_ms = _window_ms(labels.metric)
        if not 0 < window_ms <= (end_ms - start_ms) // 2:
            continue
        full = matrix.steps_ms >= start_ms + window_ms
        present = full & matrix.present[index] & np.isfinite(matrix.values[index])
        key = (labels.get("sloth_service"), labels.get("sloth_slo"))
        if present.any() and window_ms > measured.get(key, (0, 0.0))[0]:
            measured[key] = (window_ms, float(matrix.values[index][present].mean()))
    found = []
    for (service, name), objective in sorted(objectives.items()):
        error_ratio = measured.get((service, name), (0, None))[1]
        held = None if error_ratio is None else error_ratio <= 1 - objective + 1e-12
        found.append(
            {
                "service": service,
                "name": name,
                "objective": objective,
                "error_ratio": number(error_ratio),
                "held": held,
            }
        )
    return found


def _window_ms(metric: str) -> int:
    try:
        return parse_duration_ms(metric.removeprefix(_PREFIX))
    except ValueError:
        return 0


def _over(querier: Querier, expr: str, start_ms: int, end_ms: int) -> float | None:
    """Over the stage alone: a rate's usual window would hold what came before it."""
    window_ms = min(max(end_ms - start_ms, 1), _LONGEST_MS)
    vector = querier.instant(expr.replace("{window}", f"{window_ms}ms"), end_ms)
    return number(float(vector.values[0])) if len(vector) else None


def _step_ms(start_ms: int, end_ms: int) -> int:
    return max(_STEP_MS, math.ceil((end_ms - start_ms) / _MAX_POINTS))


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
