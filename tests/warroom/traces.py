"""Traces of a shop as its SDK sends them: OTLP/HTTP in JSON."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
ROOT_ID = "b7ad6b7169203331"


def attributes(values: Json) -> list[Json]:
    def value_of(value: Any) -> Json:
        if isinstance(value, bool):
            return {"boolValue": value}
        if isinstance(value, int):
            return {"intValue": str(value)}
        return {"stringValue": value}

    return [{"key": key, "value": value_of(value)} for key, value in values.items()]


def span(span_id: str, name: str, times_ms: tuple[float, float], **fields: Any) -> Json:
    start, end = (str(round(ms * 1_000_000)) for ms in times_ms)
    named = attributes(fields.pop("attributes", {}))
    return {
        "traceId": TRACE_ID,
        "spanId": span_id,
        "name": name,
        "startTimeUnixNano": start,
        "endTimeUnixNano": end,
        "attributes": named,
        **fields,
    }


def request(spans: list[Json], service: str = "shop") -> Json:
    resource = {"attributes": attributes({"service.name": service, "service.version": "1.2"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}


def product_list(end_ms: int, queries: int = 20) -> Json:
    """One page view of 200 ms that asks for each product's brand in a query of its own."""
    start_ms = end_ms - 200
    root = span(
        ROOT_ID,
        "GET products/",
        (start_ms, end_ms),
        kind=2,
        attributes={"http.request.method": "GET", "http.route": "products/"},
    )
    statement = "SELECT name FROM brand WHERE id = {}"
    return request(
        [
            root,
            *(
                span(
                    f"{n + 1:016x}",
                    "SELECT brand",
                    (start_ms + 5 + n * 8, start_ms + 11 + n * 8),
                    kind=3,
                    parentSpanId=ROOT_ID,
                    attributes={
                        "db.system.name": "postgresql",
                        "db.query.text": statement.format(n + 100),
                        "code.function.name": "shop.views.products",
                        "code.file.path": "shop/views.py",
                        "code.line.number": 42,
                    },
                )
                for n in range(queries)
            ),
        ]
    )
