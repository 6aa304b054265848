"""Bodies of GA4's Measurement Protocol, and forms of CloudEvents that few senders use."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.cloudevents import DecodedEvents, decode_events, split_events

NOW_MS = 1_795_416_400_000
PURCHASE = {
    "name": "purchase",
    "params": {
        "transaction_id": "T_12345",
        "value": 12.21,
        "currency": "USD",
        "session_id": "123",
        "engagement_time_msec": 100,
        "items": [{"item_id": "SKU_12345", "price": 10.01, "quantity": 3}],
    },
}


def decoded(document: Any) -> DecodedEvents:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_events(split_events(body, "application/json", {}), NOW_MS)


def rows(document: Any) -> list[dict[str, Any]]:
    found = decoded(document)
    assert found.rejected == ()
    return found.batch.table.to_pylist()


def body(*events: Any, **more: Any) -> dict[str, Any]:
    return {"client_id": "GA1.1.99.17", "user_id": "jane", "events": list(events), **more}


def test_a_purchase_is_an_order_known_by_its_transaction() -> None:
    (row,) = rows(body(PURCHASE, timestamp_micros="1795416364297000"))
    assert (row["type"], row["order_id"], row["session_id"]) == ("purchase", "T_12345", "123")
    assert (row["amount"], row["currency"]) == (Decimal("12.21"), "USD")
    assert (row["event_id"], row["source"]) == ("purchase-T_12345", "ga4")
    assert row["ts_ms"] == 1_795_416_364_297
    assert json.loads(row["data"])["items"][0]["price"] == "10.01"
    (again,) = rows(body(PURCHASE))
    assert again["event_id"] == row["event_id"]
    assert "jane" not in str(row)
    assert "GA1.1" not in str(row)


def test_other_events_are_known_by_what_they_say_and_when() -> None:
    cart = {"name": "add_to_cart", "params": {"ga_session_id": 7, "value": 1, "currency": "EUR"}}
    first, second, third = (
        rows(body({**cart, "timestamp_micros": at}))[0]["event_id"]
        for at in (1_795_416_364_000_000, 1_795_416_364_000_000, 1_795_416_365_000_000)
    )
    assert first == second != third
    untimed = {rows(body(cart))[0]["event_id"] for _ in range(2)}
    assert len(untimed) == 2, "two that say no time may be two"
    assert rows(body(cart))[0]["session_id"] == "7"


def test_events_that_are_no_business_events_are_refused_each_for_itself() -> None:
    found = decoded(body({"name": "page_view"}, PURCHASE, 5, {"params": {}}))
    assert len(found.batch) == 1
    assert [item.index for item in found.rejected] == [0, 2, 3]
    wrong = decoded(body(PURCHASE, timestamp_micros="yesterday"))
    assert "RFC 3339" in wrong.rejected[0].reason


@pytest.mark.parametrize("time", [b"1e1000000", b"-1e1000000", b"1e21", b"1e999999999999"])
def test_a_time_of_a_million_digits_is_refused_without_writing_them_out(time: bytes) -> None:
    sent = b'{"client_id":"1","events":[{"name":"search","timestamp_micros":%b}]}' % time
    assert "RFC 3339" in decoded(sent).rejected[0].reason


def test_data_in_base64_and_times_in_lower_case_are_cloud_events_too() -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "purchase"}
    packed = base64.b64encode(json.dumps(PURCHASE["params"]).encode()).decode()
    (row,) = rows({**event, "data_base64": packed, "time": "2026-11-23t06:00:00.5z"})
    assert (row["order_id"], row["ts_ms"]) == ("T_12345", 1_795_413_600_500)
    for bad in ("***", 5, base64.b64encode(b"[").decode()):
        assert "data_base64" in decoded({**event, "data_base64": bad}).rejected[0].reason
    assert decoded({**event, "time": 7}).rejected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "params", "timestamp_micros", "transaction_id", "value"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_any_body_is_events_or_refused(value: Any) -> None:
    document = json.dumps(body(value, timestamp_micros=value)).encode()
    if b"NaN" not in document and b"Infinity" not in document:
        found = decoded(document)
        assert len(found.batch) + len(found.rejected) == 1


@pytest.mark.parametrize("document", [{"events": []}, {"client_id": "1"}, {"events": 5}])
def test_what_names_no_sender_is_no_measurement(document: Any) -> None:
    assert "specversion" in decoded(document).rejected[0].reason
