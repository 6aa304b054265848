"""What a running shop really sends."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from decimal import Decimal

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.shop.conftest import TOKEN, Capture, Running, eventually
from warroom.demo.plan import SHOP_DIR

pytestmark = pytest.mark.slow


def _spans(capture: Capture) -> list[tuple[str, Span, dict[str, str | int]]]:
    found = []
    for body in list(capture.bodies.get("/v1/traces", [])):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes: dict[str, str | int] = {
                        item.key: item.value.string_value or item.value.int_value
                        for item in span.attributes
                    }
                    found.append((names["service.name"], span, attributes))
    return found


def _shop(running: Running) -> httpx.Client:
    return httpx.Client(base_url=running.url, trust_env=False)


def _switch(client: httpx.Client, **switches: bool) -> None:
    client.post(
        "/ops/faults", json=switches, headers={"Authorization": f"Bearer {TOKEN}"}
    ).raise_for_status()


def _line_of(text: str) -> int:
    lines = (SHOP_DIR / "shop" / "views.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_the_spans_of_a_loop_name_its_line(running_shop: Running, capture: Capture) -> None:
    with _shop(running_shop) as client:
        _switch(client, n_plus_one=True)
        page = client.get("/products/", params={"page": 3})
        _switch(client, n_plus_one=False)
    assert page.is_success

    def loop() -> list[tuple[str, Span, dict[str, str | int]]]:
        spans = [s for s in _spans(capture) if 'FROM "shop_brand" WHERE' in str(s[2])]
        return spans if len(spans) >= 48 else []

    spans = eventually(loop)
    assert {span.kind for _, span, _ in spans} == {Span.SPAN_KIND_CLIENT}
    assert len({span.parent_span_id for _, span, _ in spans}) == 1
    where = {
        (a["code.file.path"], a["code.line.number"], a["code.function.name"]) for *_, a in spans
    }
    line = _line_of("product.brand.name")
    path = str(SHOP_DIR / "shop" / "views.py")
    assert where == {(path, line, "shop.views.product_list")}
    assert all(str(a["db.query.text"]).startswith("SELECT") for *_, a in spans)
    assert {a["db.system.name"] for *_, a in spans} == {"sqlite"}


def test_a_trace_crosses_to_the_inventory(running_shop: Running, capture: Capture) -> None:
    with _shop(running_shop) as client:
        assert client.get("/products/7/").is_success

    def crossed() -> set[bytes]:
        by_service: dict[str, set[bytes]] = {}
        for service, span, attributes in _spans(capture):
            if attributes.get("http.route") in {"products/<int:pk>/", "stock/"}:
                by_service.setdefault(service, set()).add(span.trace_id)
        return by_service.get("shop", set()) & by_service.get("inventory", set())

    assert eventually(crossed)


def test_asking_for_each_item_is_a_call_for_each(running_shop: Running, capture: Capture) -> None:
    with _shop(running_shop) as client:
        client.get("/products/9/").raise_for_status()
        headers = {"X-CSRFToken": client.cookies["csrftoken"]}
        for number in range(20, 26):
            client.post("/cart/add/", data={"product": str(number)}, headers=headers)
        _switch(client, inventory_per_item=True)
        client.get("/cart/").raise_for_status()
        _switch(client, inventory_per_item=False)

    def calls() -> Counter[bytes]:
        return Counter(
            span.trace_id
            for service, span, attributes in _spans(capture)
            if service == "inventory" and attributes.get("http.route") == "stock/<str:sku>/"
        )

    # Other tests of this shop look at single products meanwhile: traces with one call each.
    assert eventually(lambda: max(calls().values(), default=0) >= 6)
    assert max(calls().values()) == 6


def test_metrics_have_stable_names_and_seconds(running_shop: Running, capture: Capture) -> None:
    with _shop(running_shop) as client:
        assert client.get("/products/").is_success

    def bounds() -> dict[str, tuple[float, ...]]:
        found: dict[str, tuple[float, ...]] = {}
        for body in list(capture.bodies.get("/v1/metrics", [])):
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        for point in metric.histogram.data_points:
                            found[metric.name] = tuple(point.explicit_bounds)
        wanted = {"http.server.request.duration", "db.client.operation.duration"}
        return found if wanted <= set(found) else {}

    found = eventually(bounds)
    assert found["db.client.operation.duration"] == (
        0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
    )  # fmt: skip
    assert 0.5 in found["http.server.request.duration"]


def test_business_events_are_cloudevents_of_one_checkout(
    running_shop: Running, capture: Capture
) -> None:
    with _shop(running_shop) as client:
        client.get("/products/9/").raise_for_status()
        headers = {"X-CSRFToken": client.cookies["csrftoken"]}
        steps: list[tuple[str, dict[str, str]]] = [
            ("/cart/add/", {"product": "9", "quantity": "2"}),
            ("/checkout/", {}),
            ("/checkout/shipping/", {"country": "AT"}),
            ("/checkout/payment/", {"method": "card"}),
            ("/checkout/purchase/", {}),
        ]
        answers = [client.post(path, data=data, headers=headers) for path, data in steps]
    assert [answer.status_code for answer in answers] == [302, 204, 204, 204, 302]
    order_id = answers[-1].headers["Location"].split("/")[-2]

    def session() -> list[dict[str, object]]:
        lines = b"\n".join(capture.bodies.get("/events", [])).splitlines()
        events: list[dict[str, object]] = [json.loads(line) for line in lines]
        mine = [event for event in events if order_id in json.dumps(event)]
        if not mine:
            return []
        data = mine[0]["data"]
        assert isinstance(data, dict)
        return [event for event in events if str(data["session_id"]) in json.dumps(event)]

    events = eventually(session)
    assert [event["type"] for event in events] == [
        "view_item", "add_to_cart", "begin_checkout", "add_shipping_info", "add_payment_info",
        "purchase",
    ]  # fmt: skip
    for event in events:
        assert event["specversion"] == "1.0"
        assert event["source"] == "shop"
        assert datetime.fromisoformat(str(event["time"])).tzinfo is not None
    assert len({event["id"] for event in events}) == len(events)
    purchase = events[-1]["data"]
    assert isinstance(purchase, dict)
    assert purchase["transaction_id"] == order_id
    assert Decimal(purchase["value"]) > 0
    assert (purchase["currency"], purchase["country"]) == ("EUR", "AT")
    assert re.fullmatch("[0-9a-f]{32}", purchase["trace_id"])
    checkouts = {event["data"]["checkout_id"] for event in events[2:]}  # type: ignore[index]
    assert len(checkouts) == 1


def test_beacons_are_forwarded_as_one_array(running_shop: Running, capture: Capture) -> None:
    with _shop(running_shop) as client:
        for beacons in ([{"name": "LCP", "value": 1}], {"name": "CLS", "value": 0.1}):
            assert client.post("/rum", content=json.dumps(beacons)).status_code == 204

    def names() -> list[str]:
        forwarded = [
            beacon for body in capture.bodies.get("/rum", []) for beacon in json.loads(body)
        ]
        return [beacon["name"] for beacon in forwarded] if len(forwarded) >= 2 else []

    assert sorted(eventually(names)) == ["CLS", "LCP"]
