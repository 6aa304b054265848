"""The same story as the pages read it by HTTP: incidents, traces, readiness, boards."""

from __future__ import annotations

from typing import Any

from tests.dashboards import story

Json = dict[str, Any]
INCIDENT_ID = "inc-1"
BOARD_YAML = """\
# The wall of this story.
name: war-room
title: War room
rows:
  - title: Business
    panels:
      - {id: orders, kind: stat, title: Orders, kpi: orders_per_minute}
"""


def answers(now_ms: int) -> dict[str, Json]:
    """What each own route answers, by its path."""
    own = "/api/warroom/v1"
    return {
        f"{own}/session": {"role": "admin", "tokens_required": False},
        f"{own}/incidents": {"incidents": [incident(now_ms)], "next": None},
        f"{own}/incidents/{INCIDENT_ID}": incident(now_ms),
        f"{own}/timeline": {"events": story.timeline(now_ms), "next": None},
        f"{own}/traces": {"traces": _traces(now_ms), "next": None},
        f"{own}/traces/services": {
            "services": [
                {"name": "shop", "operations": ["GET /products/", "POST /checkout/"]},
                {"name": "stock", "operations": ["GET /api/stock/"]},
            ],
            "next": None,
        },
        f"{own}/service-map": _service_map(),
        f"{own}/readiness": _readiness(now_ms),
        f"{own}/boards": {
            "boards": [
                _board("war-room", "War room", "shipped"),
                _board("checkout", "Checkout", "saved"),
            ],
            "next": None,
        },
        f"{own}/findings/{story.FINDING_ID}/before-after": _before_after(now_ms),
    }


def incident(now_ms: int) -> Json:
    return {
        "id": INCIDENT_ID,
        "title": "N+1 query: brand loaded once per product",
        "severity": "page",
        "state": "open",
        "started_at": now_ms - 150_000,
        "detected_at": now_ms - 140_000,
        "acknowledged_at": None,
        "acknowledged_by": "",
        "resolved_at": None,
        "alerts": [
            {
                "fingerprint": story.FINGERPRINT,
                "name": "NPlusOneQuery",
                "labels": {"alertname": "NPlusOneQuery", "service": "shop"},
                "summary": "48 queries in a loop",
                "fired_at": now_ms - 140_000,
                "resolved_at": None,
            },
            {
                "fingerprint": "b2",
                "name": "LatencyHigh",
                "labels": {"alertname": "LatencyHigh", "service": "shop"},
                "summary": "p95 is 710 ms",
                "fired_at": now_ms - 120_000,
                "resolved_at": now_ms - 20_000,
            },
        ],
        "probable_causes": [
            {
                "kind": "n_plus_one_query",
                "ref": f"/findings/{story.FINDING_ID}",
                "confidence": 0.8,
                "why": "catalog/views.py:87 asks for each brand since deploy v214",
            }
        ],
        "revenue_at_risk": {"amount": "58200.00", "currency": "EUR"},
        "timeline": story.timeline(now_ms),
    }


def _traces(now_ms: int) -> list[Json]:
    rows = [
        (story.TRACE_ID, "shop", "GET /products/", 0.71, 55, 0, [("shop", 52), ("stock", 3)], True),
        ("1" * 32, "shop", "POST /checkout/", 0.18, 11, 1, [("shop", 6), ("pay", 5)], True),
        ("2" * 32, "stock", "GET /api/stock/", 0.02, 2, 0, [("stock", 2)], False),
    ]
    return [
        {
            "trace_id": trace_id,
            "service": service,
            "operation": operation,
            "started_at": now_ms - 1000 * place,
            "duration_seconds": duration,
            "spans": spans,
            "errors": errors,
            "services": [{"name": name, "spans": count} for name, count in services],
            "complete": complete,
        }
        for place, (trace_id, service, operation, duration, spans, errors, services, complete) in (
            enumerate(rows)
        )
    ]


def _service_map() -> Json:
    edges = [
        ("shop", "stock", 1_750, 0, 0.021),
        ("shop", "pay", 430, 26, 0.18),
        ("shop", "mysql db-1", 5_330, 0, 0.0074),
        ("stock", "mysql db-1", 2_950, 0, 0.0003),
        ("shop", "redis", 9_100, 0, 0.0006),
    ]
    names = {"shop": "service", "stock": "service", "pay": "service"}
    return {
        "nodes": [
            {"name": name, "kind": names.get(name, "store")}
            for name in ("mysql db-1", "pay", "redis", "shop", "stock")
        ],
        "edges": [
            {
                "from": caller,
                "to": callee,
                "calls": calls,
                "errors": errors,
                "error_ratio": errors / calls,
                "p50_seconds": p95 / 3,
                "p95_seconds": p95,
            }
            for caller, callee, calls, errors, p95 in edges
        ],
        "traces": 500,
        "cut": True,
    }


def _readiness(now_ms: int) -> Json:
    def stage(multiple: float, error_ratio: float) -> Json:
        slo = {
            "service": "shop",
            "name": "checkout",
            "objective": 0.999,
            "error_ratio": error_ratio,
            "held": error_ratio <= 0.001,
        }
        begin = now_ms - 86_400_000 + int(multiple * 600_000)
        return {
            "multiple": multiple,
            "from": begin,
            "to": begin + 600_000,
            "requests_per_second": 42 * multiple,
            "p95_seconds": 0.08 + 0.02 * multiple,
            "slos": [slo],
            "held": slo["held"],
        }

    def resource(kind: str, used: float, capacity: float | None, verdict: str) -> Json:
        return {
            "kind": kind,
            "name": "db-1",
            "verdict": verdict,
            "limit": 0.85,
            "used": used,
            "used_most": used * 1.2,
            "capacity": capacity,
            "low": capacity and capacity * 0.9,
            "high": capacity and capacity * 1.2,
            "multiple": capacity and capacity / 60,
            "far": bool(capacity and capacity > 400),
            "mend": "pool",
        }

    connections = resource("MySQL connections", 0.31, 190.0, "predicted")
    lines = [
        ("slos", "SLOs are defined and measured", "ok", "4 defined, all with data", ""),
        (
            "routes",
            "Every way to people was tried within a day",
            "todo",
            "not tried in 24 hours: tickets",
            "warroom drill severity=ticket",
        ),
        (
            "retention",
            "The last sale is still there to compare with",
            "unknown",
            "the calendar names no earlier sale",
            "add last year's days to the calendar",
        ),
    ]
    return {
        "as_of": now_ms,
        "target_multiple": 15.0,
        "ready": False,
        "load_tests": [
            {
                "id": "lt-1",
                "name": "k6 rehearsal",
                "source": "k6",
                "started_at": now_ms - 86_400_000,
                "ended_at": now_ms - 80_000_000,
                "target_multiple": 15,
                "requests_per_second": 630.0,
                "error_ratio": 0.004,
                "duration_seconds": {"p95": 0.41},
                "stages": [stage(1, 0.0), stage(5, 0.0006), stage(15, 0.021)],
                "held_up_to": 5,
            }
        ],
        "capacity": {
            "method": "A straight line through use against throughput.",
            "throughput": {"now": 48.2, "usual_peak": 60.0, "highest": 71.0},
            "resources": [
                connections,
                resource("CPU", 0.42, 540.0, "predicted"),
                resource("memory", 0.6, None, "not_driven_by_load"),
            ],
            "bottleneck": {**connections, "could_also_be": ["CPU web-2"]},
        },
        "checklist": [
            {"id": a, "title": b, "state": c, "fact": d, "mend": e} for a, b, c, d, e in lines
        ],
    }


def _board(name: str, title: str, origin: str) -> Json:
    shape = {"name": name, "title": title, "range": "15m", "panels": 16}
    return {**shape, "origin": origin, "etag": "t1"}


def _before_after(now_ms: int) -> Json:
    def figure(name: str, unit: str, before: float, after: float, verdict: str) -> Json:
        change = (after - before) / before
        values = {"name": name, "unit": unit, "before": before, "after": after, "change": change}
        return {**values, "verdict": verdict, "decides": name == "queries_per_request"}

    return {
        "verdict": "worse",
        "why": "queries per request went from 3 to 50 with deploy v214",
        "pivot": {"at": now_ms - 149_000, "reason": "deploy", "title": "shop v214"},
        "before": {"from": now_ms - 1_949_000, "to": now_ms - 149_000, "requests": 56_700},
        "after": {"from": now_ms - 149_000, "to": now_ms, "requests": 4_690},
        "figures": [
            figure("queries_per_request", "", 3, 50, "worse"),
            figure("latency_p95", "s", 0.18, 0.71, "worse"),
            figure("error_ratio", "ratio", 0.001, 0.001, "same"),
        ],
    }
