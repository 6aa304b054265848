"""A small load test of the demo's shop: the usual visitors, then twice and three times as many.

Its record is told as k6's summary would be. The figures are those that Warroom measured of the shop
meanwhile, and so are the verdicts of the stages: nothing is made up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from store.timestamps import rfc3339

_LOAD_TESTS = "/api/warroom/v1/loadtests"
_REQUESTS = "http_server_request_duration_seconds_count"
_BUCKETS = "http_server_request_duration_seconds_bucket"
_QUANTILES = {"med": 0.5, "p(95)": 0.95, "p(99)": 0.99}
# Shorter, no window of an SLO fits twice into it.
LEAST_S = 20.0


@dataclass(frozen=True, slots=True)
class Driven:
    """A stage as it was driven. Times are unix seconds."""

    multiple: float
    from_s: float
    to_s: float


def record(warroom: httpx.Client, name: str, stages: Sequence[Driven]) -> None:
    """Tell Warroom of a load test that was just driven.

    Raises:
        httpx.HTTPError: It did not take the record.
    """
    warroom.post(
        _LOAD_TESTS,
        params={
            "name": name,
            "source": "warroom demo",
            "started_at": _time(stages[0].from_s),
            "ended_at": _time(stages[-1].to_s),
            "target_multiple": max(stage.multiple for stage in stages),
        },
        json=_summary(warroom, stages),
    ).raise_for_status()


def _summary(warroom: httpx.Client, stages: Sequence[Driven]) -> dict[str, Any]:
    end_s, run_s = stages[-1].to_s, stages[-1].to_s - stages[0].from_s
    span = f"[{max(1, round(run_s))}s]"
    requests = _value(warroom, f'sum(increase({_REQUESTS}{{job="shop"}}{span}))', end_s)
    failing = f'sum(increase({_REQUESTS}{{job="shop",http_response_status_code=~"5.."}}{span}))'
    failed = _value(warroom, failing, end_s)
    durations: dict[str, float] = {}
    for key, quantile in _QUANTILES.items():
        buckets = f'sum by (le) (increase({_BUCKETS}{{job="shop"}}{span}))'
        value = _value(warroom, f"histogram_quantile({quantile}, {buckets})", end_s)
        if value is not None:
            durations[key] = value * 1_000
    metrics: dict[str, Any] = {"http_req_duration": {"type": "trend", "values": durations}}
    if requests:
        rate = requests / run_s
        metrics["http_reqs"] = {"type": "counter", "values": {"count": requests, "rate": rate}}
        ratio = (failed or 0.0) / requests
        metrics["http_req_failed"] = {"type": "rate", "values": {"rate": ratio}}
    return {
        "metrics": metrics,
        "state": {"testRunDurationMs": run_s * 1_000},
        "warroom": {
            "stages": [
                {
                    "multiple": stage.multiple,
                    "from": _time(stage.from_s),
                    "to": _time(stage.to_s),
                }
                for stage in stages
            ]
        },
    }


def _value(warroom: httpx.Client, expr: str, at_s: float) -> float | None:
    answer = warroom.get("/api/v1/query", params={"query": expr, "time": f"{at_s:.3f}"})
    result = answer.raise_for_status().json()["data"]["result"]
    value = float(result[0]["value"][1]) if result else math.nan
    return value if math.isfinite(value) else None


def _time(at_s: float) -> str:
    return rfc3339(round(at_s * 1_000))
