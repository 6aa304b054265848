"""What may run out first: the use of each resource, and how full is too full."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from api.readiness.capacity import FloatArray, Headroom, Verdict, headroom
from api.shapes import number
from store.model import Labels, RangeMatrix
from store.ports import Querier

Json = dict[str, Any]
THROUGHPUT = (
    "sum(rate(http_server_request_duration_seconds_count[5m]))"
    " or sum(rate(http_server_duration_milliseconds_count[5m]))"
)
_STEP_MS = 300_000
_MAX_SERIES = 100
# An hour: less tells nothing of what is usual.
_USUAL_POINTS = 12
METHOD = (
    "A straight line through use against throughput of the time looked at, met with the limit. "
    "Queues and contention bend the true curve, so read it as an upper bound."
)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of resource. Above `limit` waiting grows faster than load, or work is refused."""

    kind: str
    expr: str
    limit: float
    mend: str


RESOURCES = (
    Resource("CPU", "sig:host_cpu:used_ratio", 0.8, "add machines or cores"),
    Resource("memory", "sig:host_memory:used_ratio", 0.9, "add memory, or fewer workers"),
    Resource(
        "MySQL connections", "sig:mysql_connections:used_ratio", 0.85, "pool, or max_connections"
    ),
    Resource("PostgreSQL connections", "sig:pg_connections:used_ratio", 0.85, "PgBouncer in front"),
    Resource(
        "application's pool",
        "sig:db_client_pool:used_ratio",
        0.9,
        "raise the pool, shorten queries",
    ),
    Resource("cache connections", "sig:cache_conn:used_ratio", 0.85, "maxclients, or pool clients"),
    Resource("cache memory", "sig:cache_mem:used_ratio", 0.9, "maxmemory, or shorter lifetimes"),
    Resource("autoscaling", "sig:autoscaling:used_ratio", 0.9, "raise the group's maximum"),
)


def capacity_json(querier: Querier, now_ms: int, look_back_ms: int) -> Json:
    """Headroom of everything that is measured, and what is predicted to run out first."""
    end_ms = now_ms // _STEP_MS * _STEP_MS
    start_ms = end_ms - look_back_ms
    load = _first(querier.range(THROUGHPUT, start_ms, end_ms, _STEP_MS))
    known = load[np.isfinite(load)]
    current = _value_now(querier, now_ms)
    usual_peak = float(np.percentile(known, 95)) if len(known) >= _USUAL_POINTS else 0.0
    resources = []
    for resource in RESOURCES:
        matrix = querier.range(resource.expr, start_ms, end_ms, _STEP_MS)
        for labels, used in _lines(matrix):
            told = headroom(load, used, resource.limit, usual_peak)
            resources.append(_json(resource, labels, told))
    resources.sort(key=_order)
    return {
        "method": METHOD,
        "look_back_seconds": look_back_ms // 1000,
        "throughput": {
            "now": current,
            "usual_peak": usual_peak or None,
            "highest": max(
                [*known.tolist(), *([] if current is None else [current])], default=None
            ),
        },
        "resources": resources,
        "bottleneck": _bottleneck(resources),
    }


def _value_now(querier: Querier, now_ms: int) -> float | None:
    vector = querier.instant(THROUGHPUT, now_ms)
    return number(float(vector.values[0])) if len(vector) else None


def _first(matrix: RangeMatrix) -> FloatArray:
    if not matrix.series:
        return np.full(len(matrix.steps_ms), np.nan)
    return np.where(matrix.present[0], matrix.values[0], np.nan)


def _lines(matrix: RangeMatrix) -> Iterable[tuple[Labels, FloatArray]]:
    for index, labels in enumerate(matrix.series[:_MAX_SERIES]):
        yield labels, np.where(matrix.present[index], matrix.values[index], np.nan)


def _json(resource: Resource, labels: Labels, told: Headroom) -> Json:
    named = {key: value for key, value in labels if key != "__name__"}
    return {
        "kind": resource.kind,
        "name": " ".join(named.values()) or resource.kind,
        "labels": named,
        "verdict": told.verdict.value,
        "limit": told.limit,
        "used": number(told.used),
        "used_most": number(told.used_most),
        "capacity": number(told.capacity),
        "low": number(told.low),
        "high": number(told.high),
        "multiple": number(told.multiple),
        "far": told.far,
        "mend": resource.mend,
        "query": resource.expr,
    }


def _order(entry: Json) -> tuple[int, float]:
    if entry["verdict"] == Verdict.OVER_LIMIT:
        return 0, -(entry["used"] or 0.0)
    if entry["capacity"] is not None:
        return 1, entry["capacity"]
    return 2, -(entry["used_most"] or 0.0)


def _bottleneck(resources: list[Json]) -> Json | None:
    """The first to run out, and those that might as well be within their uncertainty."""
    if not resources:
        return None
    first = resources[0]
    if first["verdict"] not in {Verdict.OVER_LIMIT, Verdict.PREDICTED}:
        return None
    high = first["high"] if first["high"] is not None else first["capacity"]
    rivals = [
        f"{other['kind']} {other['name']}"
        for other in resources[1:]
        if other["low"] is not None and high is not None and other["low"] < high
    ]
    return {**first, "could_also_be": rivals[:5]}
