"""A sale-day story as the live stream tells it: panels for the front end's tests and pictures."""

from __future__ import annotations

import math
import random
from typing import Any

Json = dict[str, Any]
POINTS = 180
STEP_MS = 5_000
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
FINDING_ID = "fnd-1"
FINGERPRINT = "a1b2c3d4e5f60718"
ROUTES = ("/products/", "/product/<slug>/", "/cart/", "/checkout/", "/search/", "/api/stock/")


def _panel(panel_id: str, kind: str, title: str, span: int, unit: str = "", **options: Any) -> Json:
    return {
        "id": panel_id,
        "kind": kind,
        "title": title,
        "span": span,
        "unit": unit,
        "options": options,
    }


BOARD: Json = {
    "name": "war-room",
    "title": "War room",
    "rows": [
        {
            "title": "Business",
            "panels": [
                _panel("orders", "stat", "Orders", 3, "orders/min", href="/business"),
                _panel("revenue", "stat", "Revenue", 3, "EUR/min", href="/business"),
                _panel("payment-success", "stat", "Payment success", 3, "ratio"),
                _panel("abandonment", "stat", "Checkout abandonment", 3, "ratio"),
                _panel("timeline", "timeline", "What changed", 12, place="rail"),
                _panel("freshness", "freshness", "Data freshness", 12, place="footer"),
            ],
        },
        {
            "title": "Service level objectives",
            "panels": [_panel("slos", "slo", "SLOs", 12)],
        },
        {
            "title": "What is wrong",
            "panels": [
                _panel("alerts", "alerts", "Active alerts", 6),
                _panel("findings", "findings", "Findings", 6, limit=4),
            ],
        },
        {
            "title": "Golden signals",
            "panels": [_panel("services", "golden_signals", "Services", 12)],
        },
        {
            "title": "Causes",
            "panels": [
                _panel("latency", "timeseries", "Response time p95 by route", 4, "s"),
                _panel("cache-hits", "timeseries", "Cache hit ratio", 4, "ratio"),
                _panel(
                    "orders-expected",
                    "timeseries",
                    "Orders, measured and expected",
                    4,
                    "orders/min",
                    band={"expected": "expected", "low": "low", "high": "high"},
                ),
                _panel("request-rate", "timeseries", "Requests by route", 4, "req/s"),
                _panel("errors", "timeseries", "Server errors by route", 4, "ratio"),
                _panel("replica-lag", "timeseries", "Replica lag", 4, "s"),
            ],
        },
    ],
}


def finding(now_ms: int) -> Json:
    """The N+1 of the product list, in the API's own shape."""
    return {
        "id": FINDING_ID,
        "fingerprint": "9f8e7d6c5b4a3921",
        "kind": "n_plus_one_query",
        "priority": "P0",
        "status": "open",
        "title": "N+1 query: brand loaded once per product",
        "service": "shop",
        "route": "GET /products/",
        "occurrences": 1843,
        "first_seen": now_ms - 140_000,
        "last_seen": now_ms - 3_000,
        "evidence": {
            "trace_id": TRACE_ID,
            "parent_span_id": "00f067aa0ba902b7",
            "span_ids": ["00f067aa0ba902b8"],
            "statement": "SELECT id, name, logo FROM shop_brand WHERE id = ?",
            "repetitions": 48,
            "code": {
                "file": "catalog/views.py",
                "line": 87,
                "function": "product_list",
                "inferred": False,
            },
            "series": None,
            "window": None,
        },
        "impact": {
            "wasted_seconds_per_request": 0.412,
            "requests_per_second": 31.5,
            "wasted_hours_per_day": 311.4,
            "requests_hit_per_hour": 113400.0,
            "users_hit": 8120,
            "worst_request": {
                "repetitions": 96,
                "wasted_seconds": 2.74,
                "wasted_hours_per_day": 2072.0,
            },
            "money_per_hour": "1840.00",
            "currency": "EUR",
        },
        "confidence": 0.97,
        "complete": True,
        "fix": 'Product.objects.select_related("brand")\n\nOne query with a join, not one each.',
    }


def findings(now_ms: int) -> list[Json]:
    cache = finding(now_ms) | {
        "id": "fnd-2",
        "kind": "hit_rate_drop",
        "priority": "P1",
        "title": "Cache hit ratio of product-fragments fell from 94 % to 38 %",
        "route": None,
        "evidence": {"series": 'django_cache_get_hits_total{backend="fragments"}'},
        "impact": {"wasted_hours_per_day": 18.2},
        "fix": "The key prefix changed with v214: warm the cache or restore the prefix.",
    }
    slow = finding(now_ms) | {
        "id": "fnd-3",
        "kind": "n_plus_one_call",
        "priority": "P2",
        "title": "Stock service called once per cart line",
        "route": "GET /cart/",
        "evidence": {
            "trace_id": "c0ffee00b34da6a3ce929d0e0e473600",
            "repetitions": 9,
            "statement": "GET /api/stock/{id}",
            "code": {
                "file": "cart/stock.py",
                "line": 41,
                "function": "availability",
                "inferred": True,
            },
        },
        "impact": {"wasted_seconds_per_request": 0.094, "wasted_hours_per_day": 21.0},
        "complete": False,
    }
    return [finding(now_ms), cache, slow]


def alerts(now_ms: int) -> list[Json]:
    return [
        {
            "fingerprint": FINGERPRINT,
            "name": "NPlusOneQuery",
            "severity": "critical",
            "state": "firing",
            "summary": "N+1 on GET /products/",
            "cause": "48 queries per product list since deploy v214: brand is loaded once per "
            "product in catalog/views.py:87",
            "since": now_ms - 140_000,
            "impact": "p95 0.18 s to 0.71 s on 31 requests/s; about 12 % of orders pass this page",
            "fix": 'select_related("brand") in product_list, or roll back v214',
            "evidence_url": f"/traces/{TRACE_ID}",
            "incident_id": "inc-1",
            "acknowledged_by": None,
            "silenced": False,
        },
        {
            "fingerprint": "b2c3d4e5f6071829",
            "name": "OrdersMissing",
            "severity": "critical",
            "state": "firing",
            "summary": "Orders below what is expected",
            "cause": "42 orders/min where 118 to 141 were expected (Poisson p < 1e-9 over 5 min)",
            "since": now_ms - 65_000,
            "impact": "about €3,900 a minute at risk",
            "fix": "Payment provider answers 502: switch PAYMENT_PROVIDER to the second one",
            "evidence_url": "/business",
            "incident_id": "inc-2",
            "acknowledged_by": "Mira",
            "silenced": False,
        },
        {
            "fingerprint": "c3d4e5f607182930",
            "name": "ReplicaLag",
            "severity": "warning",
            "state": "firing",
            "summary": "shop-replica-2 is 4 s behind",
            "cause": "shop-replica-2 is 4 s behind since 20:58",
            "since": now_ms - 900_000,
            "impact": "",
            "fix": "",
            "evidence_url": None,
            "incident_id": None,
            "acknowledged_by": None,
            "silenced": True,
        },
    ]


def _slo(
    name: str, sli: float | None, objective: float, left: float | None, state: str, **more: Any
) -> Json:
    burns = more.pop("burns", (0.4, 0.5, 0.4))
    firing = more.pop("firing", False)
    return {
        "name": name,
        "service": "shop",
        "objective": objective,
        "window": "30d",
        "sli": sli,
        "error_budget_remaining": left,
        "burn_rates": dict(zip(("5m", "1h", "6h"), burns, strict=True)),
        "tiers": [
            {"severity": "page", "factor": 14.4, "long": "1h", "short": "5m", "firing": firing},
            {"severity": "page", "factor": 6, "long": "6h", "short": "30m", "firing": False},
            {"severity": "ticket", "factor": 1, "long": "3d", "short": "6h", "firing": False},
        ],
        "state": state,
        "exhausts_at": None,
        **more,
    }


def slos(now_ms: int) -> list[Json]:
    return [
        _slo(
            "checkout-availability",
            0.99871,
            0.999,
            0.31,
            "burning",
            burns=(22.4, 15.1, 3.2),
            firing=True,
            exhausts_at=now_ms + 11_580_000,
        ),
        _slo("product-list-latency", 0.9931, 0.99, 0.62, "burning", burns=(7.1, 2.4, 0.9)),
        _slo("search-availability", 0.99996, 0.999, 0.96, "ok"),
        _slo("payment-success", None, 0.995, None, "no_data", burns=(None, None, None)),
    ]


def sources(now_ms: int) -> list[Json]:
    def source(name: str, kind: str, state: str = "ok", delay: float = 1.0, **more: Any) -> Json:
        return {
            "name": name,
            "kind": kind,
            "state": state,
            "last_success_at": now_ms - int(delay * 1000),
            "delay_seconds": delay,
            "rate_per_second": 310.0,
            "dropped": {},
            "error": None,
            "remedy": None,
            **more,
        }

    return [
        source("otlp traces", "otlp", rate_per_second=4210.0),
        source("otlp metrics", "otlp"),
        source("business events", "events", rate_per_second=52.4),
        source("shop /metrics", "scrape", delay=2.0),
        source(
            "redis-sessions",
            "redis",
            "late",
            24.0,
            remedy="Its poll takes longer than its interval.",
        ),
        source(
            "shop-replica-3",
            "mysql",
            "error",
            95.0,
            error="Access denied for user 'warroom'",
            remedy="GRANT PROCESS, REPLICATION CLIENT to the user warroom.",
        ),
        source("cdn", "scrape", "silent", 3_700.0, rate_per_second=0),
    ]


def timeline(now_ms: int) -> list[Json]:
    rows = [
        (60, "page", "Paged Mira: OrdersMissing", "/alerts/b2c3d4e5f6071829"),
        (65, "alert", "OrdersMissing fires", "b2c3d4e5f6071829"),
        (118, "ack", "Mira acknowledged NPlusOneQuery", None),
        (132, "page", "Paged Mira: NPlusOneQuery", f"/alerts/{FINGERPRINT}"),
        (140, "finding", "N+1 query: brand loaded once per product", FINDING_ID),
        (149, "deploy", "shop v214 (new product list)", None),
        (410, "promotion", "Flash sale: headphones -40 %", None),
        (540, "flag", "new_checkout on for 50 %", None),
        (720, "resolved", "SearchLatency resolved", None),
        (880, "note", "Second wave of newsletters goes out at 21:30", None),
    ]
    return [
        {"at": now_ms - ago * 1000, "kind": kind, "title": title, "ref": ref}
        for ago, kind, title, ref in rows
    ]


def _curve(name: str, level: float, noise: float, after: float, onset: int = 30) -> list[float]:
    """A calm line that goes to another level `onset` points before its end."""
    source = random.Random(name)
    values = []
    for i in range(POINTS):
        into = max(0.0, i - (POINTS - onset)) / 6
        target = level + (after - level) * (1 - math.exp(-into))
        values.append(round(max(0.0, target * (1 + source.gauss(0, noise))), 5))
    return values


def _series(values: dict[str, list[float]], now_ms: int, **more: Any) -> Json:
    times = [now_ms - (POINTS - 1 - i) * STEP_MS for i in range(POINTS)]
    lines = [{"name": name, "labels": {}, "values": v} for name, v in values.items()]
    deploy = {"at": now_ms - 149_000, "kind": "deploy", "title": "shop v214"}
    return {
        "state": "ok",
        "as_of_ms": now_ms,
        "t": times,
        "series": lines,
        "band": None,
        "annotations": [deploy],
        **more,
    }


def _stat(  # one tile's worth of facts
    now_ms: int, value: float, unit: str, spark: list[float], status: str, **more: Any
) -> Json:
    times = [now_ms - (len(spark) - 1 - i) * STEP_MS for i in range(len(spark))]
    return {
        "state": "ok",
        "as_of_ms": now_ms,
        "value": value,
        "unit": unit,
        "spark": {"t": times, "values": spark},
        "band": None,
        "delta_last_week": None,
        "status": status,
        "provisional": False,
        **more,
    }


def _stats(now_ms: int) -> Json:
    return {
        "orders": _stat(
            now_ms,
            42.3,
            "orders/min",
            _curve("orders", 129, 0.04, 42, 14),
            "crit",
            band={"expected": 129, "low": 118, "high": 141},
            delta_last_week=-0.64,
        ),
        "revenue": _stat(
            now_ms,
            3184.2,
            "EUR/min",
            _curve("revenue", 9400, 0.05, 3200, 14),
            "warn",
            band={"expected": 9400, "low": 7900, "high": 10900},
            delta_last_week=-0.58,
        ),
        "payment-success": _stat(
            now_ms,
            0.9713,
            "ratio",
            _curve("payments", 0.972, 0.004, 0.971),
            "ok",
            band={"expected": 0.97, "low": 0.95, "high": 0.99},
            delta_last_week=0.004,
        ),
        "abandonment": _stat(
            now_ms,
            0.318,
            "ratio",
            _curve("abandonment", 0.31, 0.03, 0.318),
            "ok",
            band={"expected": 0.31, "low": 0.27, "high": 0.36},
            delta_last_week=0.007,
            provisional=True,
        ),
    }


def _charts(now_ms: int) -> Json:
    rates = {r: _curve(f"rate {r}", 40 / (i + 1), 0.05, 36 / (i + 1)) for i, r in enumerate(ROUTES)}
    latencies = {
        r: _curve(f"p95 {r}", 0.09 + i * 0.03, 0.06, 0.09 + i * 0.03) for i, r in enumerate(ROUTES)
    }
    latencies["/products/"] = _curve("p95 list", 0.18, 0.05, 0.71, 28)
    orders = _curve("orders", 129, 0.04, 42, 14)
    expected = [129 + 6 * math.sin(i / 40) for i in range(POINTS)]
    return {
        "request-rate": _series(rates, now_ms),
        "latency": _series(latencies, now_ms),
        "cache-hits": _series(
            {
                "fragments": _curve("hits", 0.94, 0.006, 0.38, 22),
                "sessions": _curve("s", 0.985, 0.002, 0.985),
            },
            now_ms,
        ),
        "orders-expected": _series(
            {
                "orders": orders,
                "expected": expected,
                "low": [e * 0.91 for e in expected],
                "high": [e * 1.09 for e in expected],
            },
            now_ms,
        ),
        "errors": {
            "state": "no_data",
            "as_of_ms": None,
            "note": "No request has failed so far.",
            "t": [],
            "series": [],
        },
        "replica-lag": {
            "state": "error",
            "as_of_ms": now_ms,
            "error": "The query took longer than 2 s.",
            "remedy": "Narrow the selector in war-room.yaml, panel replica-lag.",
        },
    }


def panels(now_ms: int) -> Json:
    services = [
        ("shop", 92.4, 0.0007, 0.06, 0.71, 1.4, "crit"),
        ("payments", 3.1, 0.214, 0.2, 1.1, 2.6, "warn"),
        ("stock", 61.0, 0.0, 0.004, 0.012, 0.03, "ok"),
    ]
    times = [now_ms - (59 - i) * STEP_MS for i in range(60)]
    golden = [
        {
            "service": name,
            "rate": rate,
            "error_ratio": errors,
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "status": status,
            "spark": {
                "t": times,
                "rate": _curve(name, rate, 0.04, rate)[-60:],
                "p95": _curve(f"{name} p95", p95 / (4 if status == "crit" else 1), 0.05, p95, 28)[
                    -60:
                ],
            },
        }
        for name, rate, errors, p50, p95, p99, status in services
    ]
    base = {"state": "ok", "as_of_ms": now_ms}
    return {
        **_stats(now_ms),
        **_charts(now_ms),
        "slos": base | {"slos": slos(now_ms)},
        "alerts": base | {"alerts": alerts(now_ms)},
        "findings": base | {"findings": findings(now_ms)},
        "services": base | {"services": golden},
        "timeline": base | {"events": timeline(now_ms)},
        "freshness": base | {"sources": sources(now_ms)},
    }


def snapshot(tick: int, now_ms: int, interval_ms: int) -> Json:
    return {
        "board": BOARD,
        "tick": tick,
        "now_ms": now_ms,
        "interval_ms": interval_ms,
        "range_ms": 900_000,
        "time_zone": "Europe/Berlin",
        "alerts_active": sum(not alert["silenced"] for alert in alerts(now_ms)),
        "panels": panels(now_ms),
    }


def trace(start_us: int) -> Json:
    """A Jaeger answer: one request, a connect span, and 48 queries of one shape."""

    def span(i: int, parent: int | None, name: str, at: int, took: int, **tags: Any) -> Json:
        return {
            "traceID": TRACE_ID,
            "spanID": f"{i:016x}",
            "operationName": name,
            "references": []
            if parent is None
            else [{"refType": "CHILD_OF", "traceID": TRACE_ID, "spanID": f"{parent:016x}"}],
            "startTime": start_us + at,
            "duration": took,
            "tags": [
                {"key": k.replace("__", "."), "type": "string", "value": v} for k, v in tags.items()
            ],
            "logs": [],
            "processID": "p1",
        }

    spans = [
        span(1, None, "GET /products/", 0, 712_000, http__route="/products/"),
        span(
            2,
            1,
            "SELECT shop_product",
            9_000,
            31_000,
            db__query__text="SELECT * FROM shop_product LIMIT 48",
        ),
        span(3, 1, "template products.html", 42_000, 660_000),
    ]
    spans += [
        span(
            10 + i,
            3,
            "SELECT shop_brand",
            50_000 + i * 13_400,
            8_600,
            db__query__text=f"SELECT id, name, logo FROM shop_brand WHERE id = {1000 + i * 7}",
        )
        for i in range(48)
    ]
    return {
        "data": [
            {"traceID": TRACE_ID, "spans": spans, "processes": {"p1": {"serviceName": "shop"}}}
        ]
    }
